"""Streams whose viewers asked for less than every event by itself."""

from typing import Any

import pytest

from pipai_contracts.events import AiProgress, Notification
from pipai_contracts.ids import Topic
from services.api import shaping
from tests.api.conftest import Api, Producer, Serve
from tests.api.fault_proxy import FaultProxy
from tests.api.stream import Frame
from tests.conftest import wait_until

LONG = 60_000
"""Milliseconds nothing in these tests waits for."""


def _done(frame: Frame) -> bool:
    return frame.event == "workflow_progress" and frame.data["progress"] == 100


async def test_connected_repeats_what_was_asked_and_only_that(api: Api) -> None:
    for query, shaped in {
        "": {},
        "?throttle_ms=500": {"throttle_ms": 500},
        "?throttle_ms=0": {"throttle_ms": 0},
        "?batch_ms=20&types=notification": {"batch_ms": 20, "types": ["notification"]},
        "?types=ai_progress,notification,ai_progress&types=notification": {"types": ["ai_progress", "notification"]},
    }.items():
        async with api.watching(f"/stream/user/u{query}") as stream:
            assert (await stream.next()).data["shaping"] == shaped


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("throttle_ms=-1", "query.throttle_ms"),
        ("throttle_ms=60001", "query.throttle_ms"),
        ("batch_ms=soon", "query.batch_ms"),
        ("types=", "query.types"),
        ("types=connected", "query.types"),
        ("types=notification,progress", "query.types"),
    ],
)
async def test_what_cannot_be_asked_is_refused(api: Api, query: str, where: str) -> None:
    answer = await api.client.get(f"/stream/workflow/w?{query}")
    assert answer.status_code == 422
    assert [fault["where"] for fault in answer.json()["errors"]] == [where]


async def test_a_throttled_viewer_gets_the_latest_and_the_end_at_once(api: Api, producer: Producer) -> None:
    async with api.watching(f"/stream/workflow/w?throttle_ms={LONG}") as stream:
        await stream.next()
        await producer.progress("w", 1)
        assert (await stream.next()).pos == 1
        await producer.progress("w", *range(2, 40))
        await producer.progress("w", 100, result={"pages": 3})
        last, end = await stream.until(_done)
    assert (last.pos, last.data["progress"]) == (39, 39)
    assert (end.pos, end.data["result"]) == (40, {"pages": 3})


async def test_what_waits_leaves_when_its_time_has_come(api: Api, producer: Producer) -> None:
    async with api.watching("/stream/workflow/w?throttle_ms=300") as stream:
        await stream.next()
        await producer.progress("w", 1)
        assert (await stream.next()).pos == 1
        await producer.progress("w", 2, 3)
        assert (await stream.until(lambda frame: frame.pos == 3))[-1].data["progress"] == 3


async def test_texts_arrive_whole_however_they_are_joined(api: Api, producer: Producer) -> None:
    words = [f"word{number} " for number in range(300)]
    async with api.watching("/stream/workflow/w?throttle_ms=50") as stream:
        await stream.next()
        for start in range(0, 300, 50):
            await producer.publish(
                *(AiProgress(workflow_id="w", step="s", delta=word) for word in words[start : start + 50])
            )
        frames = await stream.until(lambda frame: frame.pos == 300)
    assert "".join(frame.data["delta"] for frame in frames) == "".join(words)
    assert len(frames) < 300


async def test_a_batch_is_one_message_with_the_events_and_the_last_ones_id(api: Api, producer: Producer) -> None:
    async with (
        api.watching("/stream/workflow/w") as plain,
        api.watching(f"/stream/workflow/w?batch_ms={LONG}&throttle_ms=0") as stream,
    ):
        await plain.next()
        await stream.next()
        for start in range(0, 300, 100):
            await producer.progress("w", *[(start + at) / 10 for at in range(100)])
        single = await plain.until(lambda frame: frame.pos == 300)
        batch = await stream.next()
    assert batch.event == "batch"
    assert len(batch.data) == shaping.MAX_WAITING
    assert batch.id == batch.data[-1]["id"]
    assert batch.data == [{"event": one.event, "id": one.id, "data": one.data} for one in single[: len(batch.data)]]


async def test_a_joiner_gets_the_history_shaped_too(api: Api, producer: Producer) -> None:
    await producer.progress("w", *range(1, 50))
    async with api.watching(f"/stream/workflow/w?cursor=0&throttle_ms={LONG}") as stream:
        await stream.next()
        await producer.progress("w", 100)
        frames = await stream.until(_done)
    assert [frame.pos for frame in frames] == [1, 49, 50]


@pytest.mark.usefixtures("brief_farewell")
async def test_the_end_of_a_stream_comes_behind_what_waits(api: Api, producer: Producer) -> None:
    async with api.watching(f"/stream/workflow/w?batch_ms={LONG}") as stream:
        await stream.next()
        await producer.progress("w", 50, 100)
        batch, farewell = await stream.rest()
    assert [item["data"]["progress"] for item in batch.data] == [50, 100]
    assert farewell.event == "disconnected"


async def test_a_connection_that_has_lived_long_enough_gives_out_what_waits(serve: Serve, producer: Producer) -> None:
    async with (
        serve(stream_lifetime=2, heartbeat_interval=1) as api,
        api.watching(f"/stream/workflow/w?throttle_ms={LONG}") as stream,
    ):
        await stream.next()
        await producer.progress("w", 1, 2, 3)
        frames = await stream.rest()
    assert [frame.event for frame in frames] == ["workflow_progress", "workflow_progress", "disconnected"]
    assert [frame.pos for frame in frames[:2]] == [1, 3]


async def test_a_filter_lets_only_its_types_through(api: Api, producer: Producer) -> None:
    await producer.progress("w", 5, user_id="ann")
    async with (
        api.watching("/stream/user/ann?types=notification") as stream,
        api.watching("/stream/workflow/w?types=ai_progress") as latest,
    ):
        await stream.next()
        assert (await latest.next()).data["view"]["progress"] == 5
        await producer.progress("w", 6, 7)
        await producer.publish(Notification(user_id="ann", title="hello", message=""))
        await producer.publish(AiProgress(workflow_id="w", step="s", delta="x"))
        heard = await stream.until(lambda frame: frame.event != "position")
        assert [frame.data["title"] for frame in heard if frame.event == "notification"] == ["hello"]
        assert (await latest.until(lambda frame: frame.event == "ai_progress"))[-1].pos == 4
    assert set(stream.events()) <= {"connected", "notification", "position"}
    assert set(latest.events()) <= {"connected", "ai_progress", "position"}


async def test_who_saw_nothing_but_the_filter_resumes_where_the_topic_is(
    api: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its feed may have given up by then what it never wanted to see."""
    monkeypatch.setattr(shaping, "POSITION_SECONDS", 0.1)
    async with api.watching("/stream/workflow/w?types=notification") as stream:
        await stream.next()
        for start in range(0, 90, 10):
            await producer.progress("w", *range(start, start + 10))
        position = (await stream.until(lambda frame: frame.pos == 90))[-1]
    assert (position.event, position.data["cursor"]) == ("position", position.id)
    await producer.redis.xtrim(producer.keys.feed(Topic("default", "workflow", "w")), maxlen=1, approximate=False)
    async with api.watching("/stream/workflow/w?types=notification", {"Last-Event-ID": str(position.id)}) as stream:
        await stream.next()
        await producer.progress("w", 100)
        await stream.until(lambda frame: frame.pos == 91)
    assert stream.events() == ["connected", "position"]


@pytest.mark.usefixtures("brief_farewell")
async def test_a_filtered_viewer_of_an_ended_run_is_told_so_and_then_stays_away(api: Api, producer: Producer) -> None:
    async with api.watching("/stream/workflow/w?types=ai_progress") as stream:
        await stream.next()
        await producer.progress("w", 50, 100)
        *_, position, farewell = await stream.rest()
    assert farewell.event == "disconnected"
    answer = await api.client.get(
        "/stream/workflow/w", params={"types": "ai_progress"}, headers={"Last-Event-ID": str(position.id)}
    )
    assert answer.status_code == 204


async def test_a_shaped_viewer_that_does_not_read_is_reset_and_others_are_not_held_up(
    api: Api, producer: Producer
) -> None:
    large: dict[str, Any] = {"text": "x" * 100_000}
    async with (
        api.watching("/stream/workflow/w?batch_ms=10", read=False) as slow,
        api.watching("/stream/workflow/w?types=workflow_progress") as quick,
    ):
        await quick.next()
        for at in range(0, 90, 3):
            await producer.progress("w", at, at + 1, at + 2, metadata=large)
        await quick.until(lambda frame: frame.pos == 90)
        slow.read()
        frames = await slow.until(lambda frame: frame.event == "reset")
        await producer.progress("w", 91)
        last = await slow.next()
    assert frames[-1].data["reason"] == "slow"
    positions = [frame.pos for frame in [*frames, last] if frame.id]
    assert positions == sorted(set(positions))
    assert last.data["progress"] == 91


async def test_a_shaped_viewer_is_told_of_an_outage_behind_what_waits(
    serve: Serve, producer: Producer, proxy: FaultProxy
) -> None:
    async with serve(redis_url=proxy.url) as api:
        await wait_until(api.ready)
        async with api.watching(f"/stream/workflow/w?throttle_ms={LONG}") as stream:
            await stream.next()
            await producer.progress("w", 1)
            assert (await stream.next()).pos == 1
            await producer.progress("w", 2, 3)
            await _taken_by(api, "w", 3)
            await proxy.cut()
            waited, degraded = await stream.next(), await stream.next()
            proxy.release()
    assert (waited.pos, degraded.event) == (3, "error")


async def _taken_by(api: Api, workflow_id: str, pos: int) -> None:
    """Wait until the api process has been told so far."""
    async with api.watching(f"/stream/workflow/{workflow_id}?from=beginning") as stream:
        await stream.until(lambda frame: frame.pos == pos)
