"""Asking for the next event without a stream."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx2
import pytest
from prometheus_client import REGISTRY

from core.runtime.http_protocol import StreamingProtocol
from pipai_contracts.events import WorkflowProgress
from pipai_contracts.ids import Topic
from services.api import channel, events, waiting
from services.api.channel import Channel
from services.api.memory import Memory
from services.api.waiting import Waiters
from tests.api.conftest import Api, Producer, Serve
from tests.api.fault_proxy import FaultProxy
from tests.conftest import wait_until

PATH = "/events/workflow/w"

pytestmark = pytest.mark.parametrize("serve", [StreamingProtocol], indirect=True)

T = TypeVar("T")


@pytest.fixture
def waiters(monkeypatch: pytest.MonkeyPatch) -> list[Waiters]:
    """The waiters of each api served from now on."""
    made: list[Waiters] = []
    begin = Waiters.__init__

    def remembered(self: Waiters) -> None:
        begin(self)
        made.append(self)

    monkeypatch.setattr(Waiters, "__init__", remembered)
    return made


async def _asking(api: Api, waiters: list[Waiters], **params: Any) -> "asyncio.Task[httpx2.Response]":
    """A request that waits by now."""
    request = asyncio.create_task(api.client.get(PATH, params={"wait": 15, **params}))
    await wait_until(lambda: len(waiters[-1]) or request.done())
    assert not request.done()
    return request


async def _soon(answer: Awaitable[T]) -> T:
    async with asyncio.timeout(10):
        return await answer


async def test_what_is_there_already_comes_at_once(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2, 3)
    answer = await _soon(api.client.get(PATH, params={"after": 1, "wait": 60, "limit": 1}))
    assert [event["pos"] for event in answer.json()["events"]] == [2]
    assert answer.json()["next"] == answer.json()["events"][-1]["cursor"]
    assert answer.headers["cache-control"] == "no-store, private"


async def test_the_next_event_comes_when_it_happens(waiters: list[Waiters], api: Api, producer: Producer) -> None:
    await producer.progress("w", 1)
    [first] = (await api.client.get(PATH)).json()["events"]
    request = await _asking(api, waiters, after=first["cursor"])
    assert REGISTRY.get_sample_value("pipai_waiting_requests") == 1
    await producer.progress("w", 2, metadata={"big": 12345678901234567890123})
    [event] = (await _soon(request)).json()["events"]
    assert (await api.client.get(PATH, params={"after": first["cursor"]})).json()["events"] == [event]
    assert REGISTRY.get_sample_value("pipai_waiting_requests") == 0
    await wait_until(lambda: not len(waiters[-1]))


async def test_a_topic_nobody_published_to_is_waited_for(waiters: list[Waiters], api: Api, producer: Producer) -> None:
    request = await _asking(api, waiters)
    await producer.progress("w", 1)
    assert [event["pos"] for event in (await _soon(request)).json()["events"]] == [1]


async def test_when_nothing_comes_in_time_the_answer_is_empty(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1)
    answer = await _soon(api.client.get(PATH, params={"after": 1, "wait": 1}))
    assert (answer.status_code, answer.json()) == (200, {"events": [], "next": None})
    unknown = await _soon(api.client.get("/events/workflow/new", params={"wait": 1}))
    assert (unknown.status_code, unknown.json()["events"]) == (200, [])


async def test_the_end_of_a_run_ends_no_waiting(
    waiters: list[Waiters], api: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run may begin."""
    monkeypatch.setattr(channel, "LINGER_SECONDS", 0)
    await producer.progress("w", 100, run_id="r1")
    request = await _asking(api, waiters, after=1)
    await producer.progress("w", 0, run_id="r2")
    assert [event["data"]["run_id"] for event in (await _soon(request)).json()["events"]] == ["r2"]


async def test_who_polls_hears_every_event_once(api: Api, producer: Producer) -> None:
    heard: list[int] = []

    async def poll() -> None:
        after = "0"
        while len(heard) < 100:
            answer = await api.client.get(PATH, params={"after": after, "wait": 15})
            heard.extend(event["pos"] for event in answer.json()["events"])
            after = answer.json()["events"][-1]["cursor"]

    polling = asyncio.create_task(poll())
    for at in range(100):
        await producer.progress("w", at / 2)
    await _soon(polling)
    assert heard == list(range(1, 101))


@pytest.mark.parametrize("kept", [True, False])
async def test_what_happens_between_the_question_and_the_waiting_is_not_waited_for(
    api: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    """The channel has handed it out by then: its ring has it, or the store."""

    async def progress(opened: Channel) -> None:
        await producer.progress("w", 2)
        await wait_until(lambda: opened.cursor.pos == 2)
        if not kept:
            monkeypatch.setattr(Memory, "after", _forgotten)

    _once_opened(monkeypatch, progress)
    await producer.progress("w", 1)
    answer = await _soon(api.client.get(PATH, params={"after": 1, "wait": 60}))
    assert [event["pos"] for event in answer.json()["events"]] == [2]


def _once_opened(monkeypatch: pytest.MonkeyPatch, happens: Callable[[Channel], Awaitable[None]]) -> None:
    """Have this happen after the topic's channel was opened for a request, and before the store is asked."""
    open_channel = events.open_channel

    async def open_late(*asked: Any) -> Channel:
        opened = await open_channel(*asked)
        await happens(opened)
        return opened

    monkeypatch.setattr(events, "open_channel", open_late)


def _forgotten(_memory: Memory, _pos: int) -> None:
    """A ring that does not reach back."""


async def test_the_first_event_may_come_between_too(
    api: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def begin(opened: Channel) -> None:
        await producer.progress("w", 1)
        await wait_until(lambda: opened.cursor.pos == 1)

    _once_opened(monkeypatch, begin)
    answer = await _soon(api.client.get(PATH, params={"wait": 60}))
    assert [event["pos"] for event in answer.json()["events"]] == [1]


async def test_a_topic_whose_view_is_gone_is_waited_for_until_it_begins_anew(
    waiters: list[Waiters], api: Api, producer: Producer
) -> None:
    """Its channel goes on as long as somebody watches, and hears of it with the next event only."""
    await producer.progress("w", 1, 2)
    topic = Topic("default", "workflow", "w")
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await producer.redis.delete(producer.keys.view(topic), producer.keys.feed(topic))
        request = await _asking(api, waiters)
        await producer.publish(WorkflowProgress(workflow_id="w", step="work", progress=3))
        answer = (await _soon(request)).json()
    assert answer["events"][-1]["data"]["progress"] == 3


async def test_a_history_that_begins_anew_is_told(waiters: list[Waiters], api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2)
    cursor = (await api.client.get("/views/workflow/w")).json()["cursor"]
    request = await _asking(api, waiters, after=cursor)
    await producer.store.raise_generation(0)
    assert (await _soon(request)).status_code == 410


async def test_a_waiter_stays_through_an_outage(
    waiters: list[Waiters], serve: Serve, producer: Producer, proxy: FaultProxy
) -> None:
    await producer.progress("w", 1)
    async with serve(redis_url=proxy.url) as api:
        await wait_until(api.ready)
        request = await _asking(api, waiters, after=1)
        await proxy.cut()
        await wait_until(lambda: _is_away(api))
        await producer.progress("w", 2)
        proxy.release()
        assert [event["pos"] for event in (await _soon(request)).json()["events"]] == [2]


async def test_while_redis_is_away_nobody_is_told_that_there_was_nothing(
    waiters: list[Waiters], serve: Serve, producer: Producer, proxy: FaultProxy
) -> None:
    await producer.progress("w", 1)
    async with serve(redis_url=proxy.url) as api:
        await wait_until(api.ready)
        request = await _asking(api, waiters, after=1, wait=3)
        await proxy.cut()
        for answer in (await _soon(request), await api.client.get(PATH, params={"wait": 1})):
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["type"] == "/problems/store-unavailable"


async def _is_away(api: Api) -> bool:
    return not await api.ready()


async def test_who_went_away_is_waited_for_no_longer(waiters: list[Waiters], api: Api) -> None:
    opening = asyncio.create_task(_open_and_leave(api, waiters))
    await _soon(opening)
    await wait_until(lambda: not len(waiters[-1]))


async def _open_and_leave(api: Api, waiters: list[Waiters]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"GET %s?wait=60 HTTP/1.1\r\nHost: test\r\n\r\n" % PATH.encode())
    await wait_until(lambda: len(waiters[-1]))
    writer.close()
    await writer.wait_closed()
    assert reader is not None


async def test_a_process_that_is_to_stop_answers_all_at_once(waiters: list[Waiters], api: Api) -> None:
    request = await _asking(api, waiters)
    waiters[-1].end()
    assert (await _soon(request)).json() == {"events": [], "next": None}
    assert (await _soon(api.client.get(PATH, params={"wait": 60}))).json()["events"] == []


async def test_only_so_many_wait(waiters: list[Waiters], api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MAX_WAITERS", 1)
    request = await _asking(api, waiters)
    refused = await api.client.get(PATH, params={"wait": 15})
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/too-many-waiting")
    assert refused.headers["retry-after"] == "5"
    waiters[-1].end()
    await _soon(request)


@pytest.mark.parametrize("wait", ["-1", "61", "1.5", "long"])
async def test_a_wait_that_makes_no_sense_is_refused(api: Api, wait: str) -> None:
    answer = await api.client.get(PATH, params={"wait": wait})
    assert answer.status_code == 422
    assert [fault["where"] for fault in answer.json()["errors"]] == ["query.wait"]
