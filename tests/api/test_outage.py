"""Redis goes away, hangs, and comes back: viewers are told, and then get what they missed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from pipai_contracts.events import WorkflowProgress
from pipai_contracts.ids import Topic
from services.api import channel, hub, memory, sources
from services.api.known import Known
from services.standalone.embedded import Server
from tests.api.conftest import Api, Producer, Serve, producing, projecting
from tests.api.fault_proxy import FaultProxy
from tests.api.stream import Stream
from tests.conftest import wait_until


async def _told(stream: Stream, code: str) -> None:
    frame = await stream.next()
    assert frame.event == "error"
    assert frame.id is None
    assert set(frame.data) == {"code", "message", "retryable", "timestamp"}
    assert (frame.data["code"], frame.data["retryable"]) == (code, True)


@asynccontextmanager
async def following(api: Api) -> AsyncGenerator[None]:
    """From when the api follows the change feed: an outage before that has nobody told of its end."""
    await wait_until(api.ready)
    yield


async def test_viewers_stay_through_a_restart_of_redis_and_miss_nothing(
    serve: Serve, own_redis: Server, key_prefix: str
) -> None:
    own_redis.start()
    async with (
        serve(redis_url=own_redis.address) as api,
        projecting(own_redis.address, key_prefix),
        producing(own_redis.address, key_prefix) as producer,
        api.watching("/stream/workflow/w") as stream,
    ):
        await stream.next()
        await producer.progress("w", 1)
        assert (await stream.next()).pos == 1
        own_redis.stop()
        await _told(stream, "degraded")
        await _refused_while_away(api)
        own_redis.start()
        await _told(stream, "recovered")
        await producer.progress("w", 2)
        assert (await stream.next()).pos == 2
        await wait_until(api.ready)
        assert (await api.client.get("/stream/health")).status_code == 200


async def _refused_while_away(api: Api) -> None:
    for path in ("/stream/workflow/unwatched", "/stream/user/u?cursor=0", "/views/workflow/w", "/events/workflow/w"):
        answer = await api.client.get(path)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "/problems/store-unavailable"
    assert (await api.client.get("/readyz")).status_code == 503
    assert (await api.client.get("/livez")).status_code == 200


async def test_who_joins_a_watched_topic_while_redis_is_away_is_served_from_memory(
    serve: Serve, producer: Producer, proxy: FaultProxy
) -> None:
    await producer.progress("w", 1)
    async with serve(redis_url=proxy.url) as api, following(api), api.watching("/stream/workflow/w") as first:
        await first.next()
        await first.next()
        await producer.progress("w", 2, 3)
        cursor = str([await first.next(), await first.next()][-1].id)
        await proxy.cut()
        await _told(first, "degraded")
        async with (
            api.watching("/stream/workflow/w") as new,
            api.watching(f"/stream/workflow/w?cursor={cursor}") as back,
        ):
            connected = await new.next()
            assert (connected.data["stale"], connected.data["resumed"]) == (True, False)
            frames = await new.until(lambda frame: frame.event == "error")
            assert frames[-1].data["code"] == "degraded"
            assert (await back.next()).data["resumed"] is True
            await _told(back, "degraded")
            proxy.release()
            seen = [connected.pos, *[frame.pos for frame in await new.until(lambda frame: frame.pos == 3) if frame.id]]
            assert seen == list(range(seen[0], 4))
            await wait_until(api.ready)
            await producer.progress("w", 4)
            for stream in (new, back, first):
                assert (await stream.until(lambda frame: frame.event == "workflow_progress"))[-1].pos == 4


async def test_what_happened_meanwhile_comes_after_recovered(
    serve: Serve, producer: Producer, proxy: FaultProxy
) -> None:
    """Only the api is cut off: producers and projectors go on."""
    await producer.progress("quiet", 1)
    async with (
        serve(redis_url=proxy.url) as api,
        following(api),
        api.watching("/stream/workflow/w") as stream,
        api.watching("/stream/workflow/quiet") as quiet,
    ):
        await stream.next()
        await quiet.next()
        await quiet.next()
        await producer.progress("w", 1)
        assert (await stream.next()).pos == 1
        await proxy.cut()
        await _told(stream, "degraded")
        await _told(quiet, "degraded")
        await producer.progress("w", 2, 3, 4)
        proxy.release()
        await _told(stream, "recovered")
        await _told(quiet, "recovered")
        await producer.progress("w", 5)
        assert [(await stream.next()).pos for _ in range(4)] == [2, 3, 4, 5]
        await producer.progress("quiet", 2)
        assert (await quiet.next()).pos == 2


async def test_who_was_told_that_a_topic_cannot_be_read_is_told_when_it_can_be(
    serve: Serve, producer: Producer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader of changes is back before the store answers, as while masters change; nobody else tells of that."""
    known, left = sources.TopicSource.known, 2

    async def refuse_twice(source: sources.TopicSource, topic: Topic) -> Known:
        nonlocal left
        left -= 1
        if left >= 0:
            raise RedisConnectionError("refused")
        return await known(source, topic)

    monkeypatch.setattr(channel, "_RETRY_SECONDS", 0.05)
    async with serve(redis_url=proxy.url) as api, following(api), api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await proxy.cut()
        await _told(stream, "degraded")
        monkeypatch.setattr(sources.TopicSource, "known", refuse_twice)
        proxy.release()
        for code in ("recovered", "degraded", "recovered"):
            await _told(stream, code)
        await producer.progress("w", 1)
        assert (await stream.next()).pos == 1


async def test_nothing_is_said_to_a_viewer_before_connected(
    serve: Serve, producer: Producer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, temporal_address: str
) -> None:
    """Redis goes away, and comes back, and Temporal answers, while the state of its topic is on its way."""
    known, held = sources.TopicSource.known, asyncio.Event()

    async def answer_late(source: sources.TopicSource, topic: Topic) -> Known:
        found = await known(source, topic)
        await held.wait()
        return found

    async with (
        serve(redis_url=proxy.url, temporal_address=temporal_address) as api,
        following(api),
        api.watching("/stream/workflow/w") as first,
    ):
        await first.until(lambda frame: frame.event == "temporal_status")
        monkeypatch.setattr(memory, "_FRESH_SECONDS", -1)
        monkeypatch.setattr(sources.TopicSource, "known", answer_late)
        async with api.watching("/stream/workflow/w") as new:
            await proxy.cut()
            await _told(first, "degraded")
            proxy.release()
            await _told(first, "recovered")
            held.set()
            assert [(await new.next()).event for _ in range(2)] == ["connected", "temporal_status"]
            await producer.progress("w", 1)
            assert (await new.next()).pos == 1


async def test_a_change_feed_trimmed_during_the_outage_costs_nobody_an_event(
    serve: Serve, producer: Producer, proxy: FaultProxy
) -> None:
    """The viewer's own feed still has them."""
    async with serve(redis_url=proxy.url) as api, following(api), api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await proxy.cut()
        await _told(stream, "degraded")
        await producer.progress("w", 1, 2, 3, 4)
        await producer.redis.xtrim(producer.keys.changes(0), maxlen=1, approximate=False)
        proxy.release()
        await _told(stream, "recovered")
        await producer.progress("w", 5)
        assert [(await stream.next()).pos for _ in range(5)] == [1, 2, 3, 4, 5]


async def test_who_joins_before_the_api_follows_gets_the_events_and_no_reset(
    serve: Serve, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = asyncio.Event()

    async def answer_late(*_: object) -> None:
        await published.wait()

    monkeypatch.setattr(hub, "check_layout", answer_late)
    monkeypatch.setattr(hub, "_LAYOUT_SECONDS", 0.05)
    async with serve() as api, api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await producer.progress("w", 1, 2)
        published.set()
        await wait_until(api.ready)
        await producer.progress("w", 3)
        assert [(await stream.next()).pos for _ in range(3)] == [1, 2, 3]


@pytest.mark.usefixtures("brief_farewell")
async def test_a_run_that_ended_during_the_outage_ends_the_stream(
    serve: Serve, producer: Producer, proxy: FaultProxy
) -> None:
    async with serve(redis_url=proxy.url) as api, following(api), api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await proxy.cut()
        await _told(stream, "degraded")
        await producer.progress("w", 50, 100)
        proxy.release()
        assert [frame.event for frame in await stream.rest()] == [
            "error",
            "workflow_progress",
            "workflow_progress",
            "disconnected",
        ]


async def test_new_viewers_are_refused_in_time_when_redis_hangs(
    serve: Serve, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_SNAPSHOT_SECONDS", 0.5)
    async with serve(redis_url=proxy.url) as api:
        await wait_until(api.ready)
        proxy.hold()
        began = asyncio.get_running_loop().time()
        answer = await api.client.get("/stream/workflow/w")
        assert answer.status_code == 503
        assert asyncio.get_running_loop().time() - began < 2
        proxy.release()


async def test_it_starts_without_redis_and_serves_when_it_is_there(
    serve: Serve, own_redis: Server, key_prefix: str
) -> None:
    async with serve(redis_url=own_redis.address) as api:
        assert not await api.ready()
        assert (await api.client.get("/livez")).status_code == 200
        assert (await api.client.get("/stream/workflow/w")).status_code == 503
        own_redis.start()
        await wait_until(api.ready)
        async with (
            projecting(own_redis.address, key_prefix),
            producing(own_redis.address, key_prefix) as producer,
            api.watching("/stream/workflow/w") as stream,
        ):
            await stream.next()
            await producer.progress("w", 1)
            assert (await stream.next()).pos == 1


async def test_a_redis_that_comes_back_at_once_with_older_data_resets_its_viewers(
    serve: Serve, producer: Producer
) -> None:
    """A failover: every connection breaks, and the next read finds the change feed longer than before."""
    topic, source = Topic("default", "workflow", "w"), producer.keys.source("workflow:progress", 0)
    names = [producer.keys.view(topic), producer.keys.feed(topic), producer.keys.changes(0)]
    names += [producer.keys.checkpoint(0), source.key, source.offset]
    async with serve(stream_block_time=5000) as api, api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await producer.progress("w", 10, 20)
        old = {name: await producer.redis.dump(name) for name in names}
        await producer.progress("w", 30, 40)
        before = (await stream.until(lambda frame: frame.pos == 4))[-1]

        await _fail_over(producer, old)
        await producer.publish(*(WorkflowProgress(workflow_id="v", step="work", progress=at) for at in range(1, 7)))

        *told, reset = await stream.until(lambda frame: frame.event == "reset")
        assert [frame.data["code"] for frame in told] == ["degraded", "recovered"]
        assert (reset.pos, reset.data["view"]["progress"]) == (2, 20)
        assert str(reset.id).split(".")[0] != str(before.id).split(".")[0]
        await producer.progress("w", 50)
        following = await stream.next()
        assert (following.pos, following.data["progress"]) == (3, 50)


async def _fail_over(producer: Producer, old: dict[str, bytes | None]) -> None:
    """Make these keys what they were, and break everybody else's connections; all in one step."""
    mine = await producer.redis.client_id()
    clients = await producer.redis.client_list()
    async with producer.redis.pipeline(transaction=True) as pipe:
        for name, dump in old.items():
            milliseconds = 0 if producer.keys.is_permanent(name) else 600_000
            pipe.restore(name, milliseconds, cast("bytes", dump), replace=True)
        for client in clients:
            if int(client["id"]) != mine:
                pipe.client_kill_filter(_id=client["id"])
        await pipe.execute()
