"""Following the change feed: what its faults come to for viewers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from core.log.keys import Keys
from core.runtime.redis import blocking_client, command_client
from core.views.store import ViewStore
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId
from services.api import hub as hub_module
from services.api.channel import Channel
from services.api.hub import Hub
from services.api.sources import TopicSource
from services.api.viewers import Viewers
from tests.api.conftest import Api, Producer, Serve
from tests.api.fault_proxy import FaultProxy
from tests.conftest import wait_until


def _changes(producer: Producer) -> str:
    return producer.keys.changes(0)


async def test_a_change_feed_trimmed_past_its_reader_costs_nobody_an_event(
    serve: Serve, producer: Producer, proxy: FaultProxy
) -> None:
    await producer.progress("calm", 1)
    async with (
        serve(redis_url=proxy.url) as api,
        api.watching("/stream/workflow/w") as missed,
        api.watching("/stream/workflow/calm?cursor=0") as calm,
    ):
        await missed.next()
        await calm.until(lambda frame: frame.pos == 1)
        proxy.hold()
        await producer.progress("w", 1)  # at most this one is in the reply that is held
        await producer.progress("w", 2, 3, 4)
        await producer.progress("calm", 2)
        await producer.redis.xtrim(_changes(producer), maxlen=1, approximate=False)
        proxy.release()
        await producer.progress("w", 5)
        assert [(await missed.next()).pos for _ in range(5)] == [1, 2, 3, 4, 5]
        await producer.progress("calm", 3)
        assert [(await calm.next()).pos, (await calm.next()).pos] == [2, 3]
        assert "reset" not in calm.events() + missed.events()


async def test_what_neither_change_feed_nor_feed_has_any_more_is_a_reset(
    serve: Serve, producer: Producer, proxy: FaultProxy
) -> None:
    async with serve(redis_url=proxy.url) as api, api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await wait_until(api.ready)
        proxy.hold()
        await producer.progress("w", 1)  # at most this one is in the reply that is held
        await producer.progress("w", 2, 3, 4)
        for name in (_changes(producer), producer.keys.feed(Topic("default", "workflow", "w"))):
            await producer.redis.xtrim(name, maxlen=1, approximate=False)
        proxy.release()
        frames = await stream.until(lambda frame: frame.pos == 4)
        assert (frames[-1].event, frames[-1].data["reason"]) == ("reset", "lost")
        assert frames[-1].data["view"]["progress"] == 4
        assert [frame.pos for frame in frames[:-1]] == list(range(1, len(frames)))


async def test_a_deleted_change_feed_is_followed_from_its_new_beginning(serve: Serve, producer: Producer) -> None:
    """The read goes on for long, so that the feed begins anew under it. A projector cannot tell that from a loss."""
    await producer.progress("w", 1, 2, 3)
    async with serve(stream_block_time=5000) as api, api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await stream.next()
        with capture_logs() as lines:
            await producer.redis.delete(_changes(producer))
            await producer.progress("w", 4)
            told = await stream.until(lambda frame: frame.pos == 4)
            assert [line for line in lines if line["event"] == "stream viewers resync"]
        assert told[0].event == "reset"
        await producer.progress("w", 5)
        assert (await stream.next()).pos == 5


async def test_a_deleted_change_feed_that_took_an_event_along_is_told_as_a_loss(
    serve: Serve, producer: Producer, proxy: FaultProxy
) -> None:
    """It is as long as before, but its numbers are others."""
    await producer.progress("w", 1, 2, 3)
    await producer.progress("other", 1)
    async with (
        serve(redis_url=proxy.url, stream_block_time=5000) as api,
        api.watching("/stream/workflow/w") as stream,
    ):
        await stream.next()
        await stream.next()
        proxy.hold()
        await producer.progress("other", 2)  # this one may be in the reply that is held
        await producer.progress("w", 4)
        await producer.redis.delete(_changes(producer))
        await producer.progress("other", 3, 4, 5, 6, 7, 8)
        proxy.release()
        assert (await stream.until(lambda frame: frame.pos == 4))[0].event == "reset"
        await producer.progress("w", 5)
        assert (await stream.next()).pos == 5


async def test_a_change_feed_that_went_back_resets_nobody_by_itself(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2, 3)
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await stream.next()
        with capture_logs() as lines:
            await producer.redis.delete(_changes(producer))
            await wait_until(lambda: [line for line in lines if line["event"] == "stream viewers resync"])
        async with api.watching("/stream/workflow/w") as other:
            await other.next()
        assert "reset" not in stream.events()


async def test_a_raised_generation_resets_to_a_cursor_of_the_new_epoch(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2)
    async with api.watching("/stream/workflow/w") as stream, api.watching("/stream/workflow/new") as nobody:
        connected = await stream.next()
        await stream.next()
        await nobody.next()
        await producer.store.raise_generation(0)
        reset = await stream.next()
        assert (reset.event, reset.data["reason"], reset.pos) == ("reset", "lost", 2)
        assert str(reset.id).split(".")[0] != str(connected.id).split(".")[0]

        await producer.progress("w", 3)
        following = await stream.next()
        assert str(following.id) == f"{str(reset.id).split('.')[0]}.3"
        await producer.progress("new", 1)
        assert (await nobody.next()).pos == 1
    async with api.watching("/stream/workflow/w", {"Last-Event-ID": str(connected.id)}) as stream:
        await stream.next()
        assert (await stream.next()).data["reason"] == "epoch"


GARBLED: list[dict[str, str]] = [
    {"foreign": "fields"},
    {"topic": "no topic", "epoch": "x", "pos": "1", "event": "e", "data": "{}", "stream_id": "1-0"},
    {"topic": "default:workflow:w"},
    {"topic": "default:workflow:w", "epoch": "x", "pos": "one", "event": "e", "data": "{}", "stream_id": "1-0"},
    {"topic": "default:workflow:w", "epoch": "x", "pos": "1", "event": "workflow_progress", "data": "{"},
    {"topic": "default:workflow:w", "epoch": "x", "pos": "1", "event": "workflow_progress", "data": "[]"},
    {"topic": "default:workflow:w", "epoch": "x", "pos": "1", "event": "temporal_status", "data": "{}"},
    {"topic": "default:workflow:w", "epoch": "x", "pos": "1", "event": "a\nb", "data": "{}", "stream_id": "1-0"},
]


async def test_a_change_that_cannot_be_read_does_not_stop_delivery(api: Api, producer: Producer) -> None:
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        for index, entry in enumerate(GARBLED):
            await producer.redis.xadd(_changes(producer), cast("dict[Any, Any]", entry), id=f"{2 * index + 1}-0")
            await producer.progress("w", index)
            frame = await stream.next()
            assert (frame.event, frame.pos) == ("workflow_progress", index + 1), entry
            assert (await api.client.get("/readyz")).status_code == 200


async def test_a_change_feed_of_another_type_is_an_outage_that_ends_with_it(api: Api, producer: Producer) -> None:
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await producer.redis.set(_changes(producer), "not a stream")
        assert (await stream.next()).data["code"] == "degraded"
        assert (await api.client.get("/readyz")).status_code == 503
        await producer.redis.delete(_changes(producer))
        assert (await stream.next()).data["code"] == "recovered"
        await producer.progress("w", 1)
        assert (await stream.next()).pos == 1


@pytest.fixture
async def hub(redis_url: str, key_prefix: str) -> AsyncIterator[Hub]:
    """A hub that does not run yet."""
    redis, blocking, keys = command_client(redis_url), blocking_client(redis_url, 50), Keys(key_prefix)
    source = TopicSource(ViewStore(redis, keys, feed_length=100, ttl=60), keys.partitions)
    yield Hub(redis, blocking, keys, source, Viewers(heartbeat=15, lifetime=60, retry=3000), block_ms=50)
    await redis.aclose()
    await blocking.aclose()


async def test_a_cancellation_that_redis_py_swallows_does_not_keep_the_hub_running(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.11's `wait_for`, which redis-py sends with, can lose a cancellation."""
    reading, never = asyncio.Event(), asyncio.Event()
    swallowed = 0

    async def stubborn(*_: object, **__: object) -> list[object]:
        nonlocal swallowed
        reading.set()
        try:
            await never.wait()
        except asyncio.CancelledError:
            swallowed += 1
            if swallowed > 1:
                raise
        return []

    monkeypatch.setattr(hub._blocking, "xread", stubborn)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    async with asyncio.timeout(5):
        async with hub.running():
            await reading.wait()
    assert swallowed


async def test_old_changes_the_hub_comes_to_late_reset_nobody(api: Api, producer: Producer) -> None:
    """Who joined after a generation was raised may still be handed changes of the epoch before."""
    await producer.progress("w", 1)
    old = {"topic": "default:workflow:w", "epoch": "0badc0de", "event": "workflow_progress", "stream_id": "1-0"}
    data = '{"workflow_id":"w","step":"work","progress":50}'
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await stream.next()
        ((newest, _),) = cast("list[Any]", await producer.redis.xrevrange(_changes(producer), count=1))
        number = StreamId.parse(newest).milliseconds
        for pos in (2, 3):
            entry = {**old, "pos": str(pos), "data": data}
            await producer.redis.xadd(_changes(producer), cast("dict[Any, Any]", entry), id=f"{number + pos - 1}-0")
        await producer.progress("w", 2)
        following = await stream.next()
    assert (following.event, following.pos, following.data["progress"]) == ("workflow_progress", 2, 2)


async def test_a_channel_is_closed_when_nobody_watched_it_for_long_and_sooner_where_there_are_many(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never one that was asked for just now: who is about to watch it would be told nothing."""
    monkeypatch.setattr(hub_module, "_MAX_UNWATCHED", 1)
    watched, old, older = [
        await hub.channel(Topic("default", "workflow", name)) for name in ("watched", "old", "older")
    ]
    watched.holders += 1
    now = asyncio.get_running_loop().time()

    async def kept(*channels: Channel) -> list[bool]:
        return [await hub.channel(channel.topic) is channel for channel in channels]

    hub.close_unwatched(now)
    assert await kept(watched, old, older) == [True, True, True], "those who asked for them come"
    older.left -= 30
    hub.close_unwatched(asyncio.get_running_loop().time())
    assert await kept(watched, old, older) == [True, True, False], "two are one too many"
    hub.close_unwatched(now + 100)
    assert await kept(watched, old) == [True, False]


async def test_deleting_the_newest_change_by_hand_costs_nobody_an_event(api: Api, producer: Producer) -> None:
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        for pos in range(1, 5):
            await producer.progress("w", pos)
            ((newest, _),) = cast("list[Any]", await producer.redis.xrevrange(_changes(producer), count=1))
            await producer.redis.xdel(_changes(producer), newest)
        assert [(await stream.next()).pos for _ in range(4)] == [1, 2, 3, 4]
        assert "reset" not in stream.events()
