"""Events of many requests share calls, and none is held up, lost, doubled or overtaken by another's fate."""

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence

import pytest
from redis.asyncio import Redis

from core.log.append import MAX_PER_CALL, Appender
from core.log.errors import LogUnavailableError
from core.log.keys import Keys, Source
from pipai_contracts.events import MAX_EVENT_BYTES
from pipai_contracts.publish import Published
from pipai_contracts.sealed import Sealed, seal
from services.ingest.pipeline import (
    MAX_BYTES_PER_CALL,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    Answer,
    FullPipelineError,
    Pipeline,
)
from tests.core.telling import Told, analysis, step


class _HeldAppender(Appender):
    """Notes its calls, and makes each wait until it is let go."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        super().__init__(redis, keys, idempotency_window=60, owner_ttl=60)
        self.calls: list[list[str]] = []
        self.go = asyncio.Event()
        self.fails: Exception | None = None

    async def append_to(self, source: Source, events: Sequence[Sealed]) -> list[Published | LogUnavailableError]:
        self.calls.append([event.event_id for event in events])
        await self.go.wait()
        if self.fails is not None:
            raise self.fails
        return await super().append_to(source, events)


@pytest.fixture
async def appender(redis_url: str, key_prefix: str) -> AsyncIterator[_HeldAppender]:
    async with Redis.from_url(redis_url, protocol=2) as redis:
        yield _HeldAppender(redis, Keys(key_prefix))


@pytest.fixture
def heard() -> list[Exception | None]:
    return []


@pytest.fixture
async def pipeline(appender: _HeldAppender, heard: list[Exception | None]) -> AsyncIterator[Pipeline]:
    pipeline = Pipeline(appender, heard.append)
    yield pipeline
    await pipeline.close()


class _Producers:
    """Sends events, each as a request of its own."""

    def __init__(self, pipeline: Pipeline, appender: _HeldAppender) -> None:
        self._pipeline = pipeline
        self._appender = appender

    async def send(self, event_id: str, told: Told | None = None, data: bytes = b"{}") -> asyncio.Future[Answer]:
        event = seal((told or step(1)).envelope(event_id))._replace(data=data)
        answered = self._pipeline.append(self._appender.source_of(event), event)
        await asyncio.sleep(0)  # a call that could begin has begun by now
        return answered


async def _places(sent: Sequence[asyncio.Future[Answer]]) -> list[Published]:
    answers = [await one for one in sent]
    assert all(isinstance(answer, Published) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Published)]


@pytest.fixture
def producers(pipeline: Pipeline, appender: _HeldAppender) -> _Producers:
    return _Producers(pipeline, appender)


async def test_what_arrives_during_a_call_leaves_with_the_next(
    producers: _Producers, appender: _HeldAppender, heard: list[Exception | None]
) -> None:
    count = MAX_PER_CALL + 11
    sent = [await producers.send(str(number)) for number in range(count)]
    assert appender.calls == [["0"]]
    appender.go.set()
    places = await _places(sent)

    assert [len(call) for call in appender.calls] == [1, MAX_PER_CALL, 10]
    assert [place.offset for place in places] == list(range(1, count + 1))
    assert heard == [None] * 3


async def test_the_streams_do_not_wait_for_each_other(producers: _Producers, appender: _HeldAppender) -> None:
    for number in range(3):
        await producers.send(f"w{number}")
        await producers.send(f"f{number}", analysis(1))

    assert appender.calls == [["w0"], ["f0"]]
    appender.go.set()


async def test_a_caller_that_goes_away_takes_nothing_with_it(producers: _Producers, appender: _HeldAppender) -> None:
    sent = [await producers.send(str(number)) for number in range(5)]
    for gone in (sent.pop(3), sent.pop(0)):
        gone.cancel()
    appender.go.set()
    places = await _places(sent)

    assert appender.calls == [["0"], ["1", "2", "3", "4"]]
    assert [place.offset for place in places] == [2, 3, 5]
    assert not any(place.duplicate for place in places)


async def test_a_call_carries_a_bounded_number_of_bytes(producers: _Producers, appender: _HeldAppender) -> None:
    large = b"x" * MAX_EVENT_BYTES
    sent = [await producers.send(str(number), data=large) for number in range(40)]
    appender.go.set()
    await asyncio.gather(*sent)

    at_once = MAX_BYTES_PER_CALL // MAX_EVENT_BYTES
    assert [len(call) for call in appender.calls] == [1, at_once, at_once, 39 - 2 * at_once]


async def test_when_a_call_fails_all_that_wait_for_the_stream_are_told(
    producers: _Producers, appender: _HeldAppender, heard: list[Exception | None]
) -> None:
    sent = [await producers.send(str(number)) for number in range(3)]
    appender.fails = LogUnavailableError("away")
    appender.go.set()
    answers = [await one for one in sent]
    appender.fails = None
    [later] = await _places([await producers.send("later")])

    assert answers == [heard[0]] * 3
    assert isinstance(heard[0], LogUnavailableError)
    assert appender.calls == [["0"], ["later"]]
    assert later.offset == 1


async def test_an_error_nobody_thought_of_leaves_no_caller_waiting(
    producers: _Producers, appender: _HeldAppender
) -> None:
    sent = [await producers.send(str(number)) for number in range(2)]
    ended: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: ended.append(context))
    appender.fails = ZeroDivisionError("oops")
    appender.go.set()
    answers = [await one for one in sent]
    gc.collect()

    assert all("oops" in str(answer) for answer in answers)
    assert ["oops" in str(context["exception"]) for context in ended] == [True]


async def test_closing_tells_who_waits(producers: _Producers, pipeline: Pipeline) -> None:
    sent = [await producers.send(str(number)) for number in range(2)]
    await pipeline.close()

    answers = [await one for one in sent]
    assert all(isinstance(answer, LogUnavailableError) for answer in answers)


@pytest.mark.parametrize("size", [10, MAX_EVENT_BYTES])
async def test_waiting_events_and_their_bytes_are_bounded(
    appender: _HeldAppender, pipeline: Pipeline, size: int
) -> None:
    event = seal(step(1).envelope("e"))._replace(data=b"x" * size)
    source = appender.source_of(event)
    sent = [pipeline.append(source, event) for _ in range(min(MAX_WAITING, MAX_WAITING_BYTES // size))]

    with pytest.raises(FullPipelineError):
        pipeline.append(source, event)

    appender.fails = LogUnavailableError("away")
    appender.go.set()
    assert {type(answer) for answer in await asyncio.gather(*sent)} == {LogUnavailableError}
    appender.fails = None
    assert isinstance(await pipeline.append(source, event), Published)


async def test_a_lone_event_leaves_at_once_and_others_together(
    producers: _Producers, appender: _HeldAppender, redis_url: str
) -> None:
    """A key of the wrong type is made anew on the way."""
    appender.go.set()
    spoilt = seal(step(1, of="spoilt").envelope("2"))
    async with Redis.from_url(redis_url) as redis:
        wrong = appender.source_of(spoilt).owner(spoilt.topic)
        await redis.rpush(wrong, "text")  # pyright: ignore[reportGeneralTypeIssues]
        await redis.expire(wrong, 60)
        appender.go.clear()
        sent = [await producers.send(str(number), step(1, of="spoilt" if number == 2 else "w")) for number in range(4)]
        appender.go.set()
        answers = [await one for one in sent]

    assert appender.calls == [["0"], ["1", "2", "3"]]
    assert [isinstance(answer, Published) for answer in answers] == [True] * 4
