"""Where a first connection begins when it asks for another place than the state."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from pipai_contracts.events import AiProgress
from pipai_contracts.ids import Topic
from tests.api.conftest import Api, Producer, Serve
from tests.conftest import wait_until

W = Topic("default", "workflow", "w")


async def _heard(api: Api, start: str, upto: int) -> list[int]:
    """Positions that come after `connected`, which has no view."""
    async with api.watching(f"/stream/workflow/w?from={start}") as stream:
        connected = await stream.next()
        assert (connected.data["view"], connected.data["resumed"]) == (None, False)
        frames = await stream.until(lambda frame: frame.pos == upto)
        assert {frame.event for frame in frames} == {"workflow_progress"}
        return [frame.pos for frame in frames]


async def _appended(producer: Producer, pos: int) -> int:
    """When the event at this position was appended: milliseconds since 1970."""
    [item] = await producer.store.read_feed(W, after=pos - 1, count=1)
    return item.stream_id.milliseconds


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _progress_apart(producer: Producer, *progress: int) -> None:
    """Events with a millisecond of their own."""
    for at in progress:
        await producer.progress("w", at)
        newest = await _appended(producer, await producer.pos("workflow", "w"))
        await wait_until(lambda newest=newest: datetime.now(UTC).timestamp() * 1000 > newest + 1)


async def test_the_beginning_is_the_first_event(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2, 3)
    assert await _heard(api, "beginning", 3) == [1, 2, 3]


async def test_live_is_only_what_comes(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2, 3)
    async with api.watching("/stream/workflow/w?from=live") as stream:
        connected = await stream.next()
        assert (connected.pos, connected.data["view"], connected.data["resumed"]) == (3, None, False)
        await producer.progress("w", 4)
        assert (await stream.next()).pos == 4


async def test_the_snapshot_is_what_one_gets_anyway(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2)
    async with api.watching("/stream/workflow/w?from=snapshot") as stream:
        assert (await stream.next()).data["view"]["progress"] == 2
        assert (await stream.next()).data["progress"] == 2


async def test_a_position_is_the_first_event_that_comes(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2, 3, 4, 5)
    assert await _heard(api, "3", 5) == [3, 4, 5]
    assert await _heard(api, "1", 5) == [1, 2, 3, 4, 5]
    async with api.watching("/stream/workflow/w?from=6") as stream:
        await stream.next()
        await producer.progress("w", 6)
        assert (await stream.next()).pos == 6


async def test_a_position_that_is_not_there_yet_is_a_reset(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2, 3)
    async with api.watching("/stream/workflow/w?from=9") as stream:
        await stream.next()
        reset = await stream.next()
        assert (reset.event, reset.data["reason"], reset.pos) == ("reset", "ahead", 3)


@pytest.mark.parametrize("start", ["beginning", "live", "1", "7", "2025-01-01T00:00:00Z"])
async def test_of_a_topic_nobody_published_to_everything_comes(api: Api, producer: Producer, start: str) -> None:
    async with api.watching(f"/stream/workflow/w?from={start}") as stream:
        assert (await stream.next()).id == "0"
        await producer.progress("w", 1)
        assert (await stream.next()).pos == 1


async def test_a_time_is_the_first_event_appended_then_or_later(api: Api, producer: Producer) -> None:
    await _progress_apart(producer, 1, 2, 3)
    third = await _appended(producer, 3)
    assert await _heard(api, _time(third), 3) == [3]
    assert await _heard(api, _time(third - 1), 3) == [3]
    assert await _heard(api, _time(await _appended(producer, 2)), 3) == [2, 3]
    assert await _heard(api, "2020-01-01T00:00:00Z", 3) == [1, 2, 3]


async def test_a_time_still_to_come_is_live(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1)
    tomorrow = _time(int((datetime.now(UTC) + timedelta(days=1)).timestamp() * 1000))
    async with api.watching(f"/stream/workflow/w?from={tomorrow}") as stream:
        assert (await stream.next()).pos == 1
        await producer.progress("w", 2)
        assert (await stream.next()).pos == 2


async def test_a_time_may_have_any_offset_and_its_plus_may_be_lost(api: Api, producer: Producer) -> None:
    """A `+` that is not escaped is a space in a query."""
    await producer.progress("w", 1, 2)
    for offset in ("+02:00", "%2B02:00", "-02:00", "z"):
        assert await _heard(api, f"2024-05-01T00:00:00.5{offset}", 2) == [1, 2]


async def test_times_that_do_not_rise_with_positions_are_all_looked_at(api: Api, producer: Producer) -> None:
    """Events of several source streams meet in a feed."""
    await producer.progress("w", 1, 2, 3)
    feed = producer.keys.feed(W)
    rows = cast("list[tuple[bytes, dict[bytes, bytes]]]", await producer.redis.xrange(feed))
    await producer.redis.delete(feed)
    for (place, fields), milliseconds in zip(rows, (5_000, 9_000, 7_000), strict=True):
        changed: dict[Any, Any] = {**fields, b"stream_id": f"{milliseconds}-0"}
        await producer.redis.xadd(feed, changed, id=place)
    await producer.redis.expire(feed, 600)
    assert await _heard(api, _time(7_000), 3) == [2, 3]


async def test_what_the_feed_has_given_up_is_told_by_a_reset(api: Api, producer: Producer) -> None:
    await _progress_apart(producer, 1, 2, 3, 4, 5)
    await producer.redis.xtrim(producer.keys.feed(W), maxlen=2, approximate=False)
    for start in ("beginning", "2", "2020-01-01T00:00:00Z", _time(await _appended(producer, 4) - 1)):
        async with api.watching(f"/stream/workflow/w?from={start}") as stream:
            await stream.next()
            reset = await stream.next()
            assert (reset.event, reset.data["reason"], reset.pos) == ("reset", "trimmed", 5), start
    assert await _heard(api, "4", 5) == [4, 5]
    assert await _heard(api, _time(await _appended(producer, 5)), 5) == [5]


async def test_a_cursor_wins_over_where_the_address_begins(api: Api, producer: Producer) -> None:
    """A browser comes back to the address it began with, and would hear everything again."""
    await producer.progress("w", 1, 2, 3)
    epoch = (await api.client.get("/views/workflow/w")).json()["cursor"].split(".")[0]
    for target, headers in (
        ("/stream/workflow/w?from=beginning", {"Last-Event-ID": f"{epoch}.2"}),
        (f"/stream/workflow/w?from=beginning&cursor={epoch}.2", {}),
    ):
        async with api.watching(target, headers) as stream:
            assert (await stream.next()).data["resumed"] is True
            assert (await stream.next()).pos == 3


@pytest.mark.parametrize(
    "start",
    ["", "0", "-1", "1.5", "end", "Beginning", "9999999999999999", "2025-01-01", "2025-01-01T00:00:00", "%D9%A3"],
)
async def test_what_is_no_beginning_is_refused(api: Api, start: str) -> None:
    answer = await api.client.get(f"/stream/workflow/w?from={start}")
    assert answer.status_code == 422
    assert [fault["where"] for fault in answer.json()["errors"]] == ["query.from"]


async def test_no_event_is_missed_or_doubled_where_history_goes_over_into_what_comes(
    serve: Serve, producer: Producer
) -> None:
    await producer.progress("w", *[at / 10 for at in range(100)])
    async with serve() as api, api.watching("/stream/workflow/w?from=51") as stream:
        await stream.next()
        await producer.progress("w", 50, 60)
        await producer.publish(AiProgress(workflow_id="w", step="s", delta="x"))
        frames = await stream.until(lambda frame: frame.pos == 103)
    assert [frame.pos for frame in frames] == list(range(51, 104))
