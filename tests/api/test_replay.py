"""The past of a topic is shown again, as it came, to one viewer alone."""

import asyncio
from typing import Any

import pytest

from core.log.archive.store import StoreAwayError
from core.log.history import History
from core.log.scan import keys_beginning
from pipai_contracts.events import AiProgress, AnyEvent, WorkflowProgress
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId
from services.api import replay
from tests.api.conftest import Api, Producer, Serve
from tests.api.stream import Frame
from tests.conftest import wait_until

_HOUR = 3_600_000
_DAY = 1_700_000_000_000


def _told(frames: list[Frame]) -> list[tuple[str | None, Any]]:
    """Names and data of events, without what says that they are shown again."""
    events = [frame for frame in frames if frame.event not in {"connected", "disconnected"}]
    return [(frame.event, {name: value for name, value in frame.data.items() if name != "replay"}) for frame in events]


async def _replayed(api: Api, target: str, headers: dict[str, str] | None = None) -> list[Frame]:
    async with api.watching(target, headers) as stream:
        assert stream.status == 200
        return await stream.until(lambda frame: frame.event == "disconnected")


async def test_it_is_what_live_viewers_saw(api: Api, producer: Producer) -> None:
    """An event that came too late is marked as it was then."""
    async with api.watching("/stream/workflow/w?from=beginning") as live:
        await producer.progress("w", 10, 60, 100, run_id="r", message="Seite für Seite")
        await producer.progress("w", 70, run_id="r")
        seen = await live.until(lambda frame: frame.event == "workflow_progress" and frame.data.get("late") is True)
    frames = await _replayed(api, "/replay/workflow/w?speed=max")
    assert _told(frames) == _told(seen)
    assert all(frame.data["replay"] is True for frame in frames[:-1])
    connected, *_, farewell = frames
    assert connected.data["cursor"] == "0"
    assert (farewell.data["reason"], farewell.data["reconnect"]) == ("ended", False)


async def test_who_goes_away_comes_back_with_a_cursor_and_is_told_when_it_is_over(api: Api, producer: Producer) -> None:
    await producer.progress("w", *range(10, 60, 10))
    async with api.watching("/replay/workflow/w?speed=max") as stream:
        seen = [await stream.next() for _ in range(3)]
    cursor = seen[-1].id or ""
    rest = await _replayed(api, "/replay/workflow/w?speed=max", {"Last-Event-ID": cursor})
    assert rest[0].data["resumed"] is True
    assert "view" not in rest[0].data or rest[0].data["view"] is None
    assert [frame.data["progress"] for frame in [*seen[1:], *rest[1:-1]]] == [10, 20, 30, 40, 50]
    last = rest[-2].id
    async with api.watching(f"/replay/workflow/w?speed=max&cursor={last}") as stream:
        assert stream.status == 204


async def test_a_part_begins_with_the_view_as_it_was(api: Api, producer: Producer) -> None:
    await producer.progress("w", *range(10, 60, 10))
    frames = await _replayed(api, "/replay/workflow/w?speed=max&from=3&to=4")
    assert frames[0].data["view"]["progress"] == 20
    assert [frame.data["progress"] for frame in frames[1:-1]] == [30, 40]
    assert frames[0].data["cursor"] == (frames[1].id or "").replace(".3", ".2")


async def log_at(producer: Producer, milliseconds: int, progress: int, event: AnyEvent | None = None) -> None:
    """An event appended at that moment."""
    event = event or WorkflowProgress(workflow_id="w", step="work", progress=progress)
    topic = Topic.parse("default:workflow:w")
    source = producer.keys.source_of(event.type, topic)
    fields: dict[Any, Any] = {
        "id": f"e{milliseconds}",
        "type": event.type,
        "v": 1,
        "tenant": "default",
        "topic": topic.name,
        "offset": 0,
        "user": "",
        "run": "",
        "time": StreamId(milliseconds, 0).time,
        "data": event.model_dump_json(exclude={"type"}, exclude_none=True),
    }
    await producer.redis.xadd(source.key, fields, id=f"{milliseconds}-0")


@pytest.mark.parametrize(("speed", "waits"), [("1", [1, 3600]), ("4", [0.25, 900]), ("60", [1 / 60, 60]), ("max", [])])
async def test_the_time_between_events_is_as_it_was_or_a_part_of_it(
    api: Api, producer: Producer, speed: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for milliseconds, progress in ((_DAY, 10), (_DAY + 1000, 20), (_DAY + 1000 + _HOUR, 30)):
        await log_at(producer, milliseconds, progress)
    waited: list[float] = []

    async def pause(seconds: float, ending: asyncio.Event) -> None:
        assert not ending.is_set()
        waited.append(seconds)

    monkeypatch.setattr(replay, "pause", pause)
    async with api.watching(f"/replay/workflow/w?speed={speed}") as stream:
        frames = await stream.until(lambda frame: frame.event == "disconnected")
        beats = [frame for frame in stream.frames if frame.event is None]
    assert len(frames) == 5
    assert sum(waited) == pytest.approx(sum(waits))
    assert max(waited, default=0) <= 15
    assert len(beats) == sum(max(0, -(-wait // 15) - 1) for wait in waits), "a heartbeat every fifteen seconds"


async def test_a_time_is_where_it_begins_and_ends(api: Api, producer: Producer) -> None:
    for hour, progress in enumerate((10, 20, 30, 40)):
        await log_at(producer, _DAY + hour * _HOUR, progress)
    since, to = (StreamId(_DAY + hour * _HOUR, 0).time for hour in (1, 3))
    frames = await _replayed(api, f"/replay/workflow/w?speed=max&from={since}&to={to}")
    assert [frame.data["progress"] for frame in frames[1:-1]] == [20, 30]


async def test_two_streams_of_a_topic_come_in_the_order_of_thelog_at(api: Api, producer: Producer) -> None:
    for number in range(3):
        await log_at(producer, _DAY + 2 * number, 10 * number)
        await log_at(producer, _DAY + 2 * number + 1, number, AiProgress(workflow_id="w", step="think", delta="x"))
    frames = await _replayed(api, "/replay/workflow/w?speed=max")
    assert [frame.event for frame in frames[1:-1]] == ["workflow_progress", "ai_progress"] * 3


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/replay/workflow/unheard", 404),
        ("/replay/workflow/w?speed=3", 422),
        ("/replay/workflow/w?from=soon", 422),
        ("/replay/workflow/w?to=2001-01-01T00:00:00Z", 404),
        ("/replay/workflow/w?cursor=nonsense", 400),
        ("/replay/workflow/w?cursor=00000000.1", 400),
    ],
)
async def test_what_cannot_be_shown_is_refused(api: Api, producer: Producer, target: str, status: int) -> None:
    await producer.progress("w", 10)
    answer = await api.client.get(target)
    assert answer.status_code == status
    assert answer.json()["title"]


async def test_a_live_cursor_and_one_of_a_replay_are_not_mistaken_for_each_other(api: Api, producer: Producer) -> None:
    await producer.progress("w", 10, 20)
    live = (await api.client.get("/views/workflow/w")).json()["cursor"]
    assert (await api.client.get("/replay/workflow/w", params={"cursor": live})).status_code == 400
    frames = await _replayed(api, "/replay/workflow/w?speed=max")
    async with api.watching(f"/stream/workflow/w?cursor={frames[1].id}") as stream:
        frames = await stream.until(lambda frame: frame.event == "reset")
    assert frames[-1].data["reason"] == "epoch"


async def _keys(producer: Producer) -> dict[str, object]:
    """Log, views and feeds as they are once the projector has put away all that it was given."""
    stream = producer.keys.source("workflow:progress", 0).key
    await wait_until(lambda: _put_away(producer, stream), message="the projector does not come to the end of the log")
    found = [key async for key in keys_beginning(producer.redis, producer.keys.prefix)]
    mine = [key for key in found if ":feed:" in key or ":view:" in key or "progress" in key]
    contents = {key: await _content(producer, key) for key in mine}
    return {key: content for key, content in contents.items() if content != []}


async def _put_away(producer: Producer, stream: str) -> bool:
    (group,) = await producer.redis.xinfo_groups(stream)
    return group["pending"] == 0 and group["lag"] == 0


async def _content(producer: Producer, key: str) -> object:
    """What a key holds; of a stream its entries, since a projector that begins makes empty ones and says who reads."""
    if await producer.redis.type(key) == b"stream":
        return await producer.redis.xrange(key)
    return await producer.redis.dump(key)


async def test_nobody_else_notices(api: Api, producer: Producer) -> None:
    await producer.progress("w", *range(10, 60, 10))
    before = await _keys(producer)
    async with api.watching("/stream/workflow/w") as live:
        await live.next()
        await _replayed(api, "/replay/workflow/w?speed=max")
        assert await api.active_streams() == 1
        assert [frame.event for frame in live.frames if frame.event] == ["connected", "workflow_progress"]
    assert await _keys(producer) == before


async def test_there_is_room_for_so_many_and_each_that_goes_makes_some(
    api: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MOST", 2)
    for milliseconds, progress in ((_DAY, 10), (_DAY + _HOUR, 20)):
        await log_at(producer, milliseconds, progress)
    async with api.watching("/replay/workflow/w") as one, api.watching("/replay/workflow/w") as other:
        for stream in (one, other):
            await stream.next()
            await stream.next()
        refused = await api.client.get("/replay/workflow/w")
        assert refused.status_code == 503
        assert refused.headers["Retry-After"]
    await wait_until(lambda: _has_room(api), 10)


async def _has_room(api: Api) -> bool:
    return (await api.client.get("/replay/workflow/w?speed=max")).status_code == 200


async def test_a_history_that_goes_away_in_the_middle_is_told(
    api: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.log.history._PAGE", 2)
    await producer.progress("w", *range(10, 60, 10))
    find = History.find

    async def break_off(history: History, *asked: Any, **more: Any) -> Any:
        if more.get("after") is not None:
            raise StoreAwayError("gone")
        return await find(history, *asked, **more)

    monkeypatch.setattr(History, "find", break_off)
    async with api.watching("/replay/workflow/w?speed=max") as stream:
        frames = await stream.rest()
    assert [frame.event for frame in frames] == ["connected", "workflow_progress", "workflow_progress", "error"]
    assert frames[-1].data["retryable"] is True


async def test_it_goes_on_however_long_it_takes(api: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is bounded is the way to its first event, and each look into the history."""
    monkeypatch.setattr("core.log.history._PAGE", 2)
    monkeypatch.setattr("core.views.past._SECONDS", 1.5)
    for number in range(5):
        await log_at(producer, _DAY + 500 * number, number)
    frames = await _replayed(api, "/replay/workflow/w?speed=1")
    assert [frame.data["progress"] for frame in frames[1:-1]] == [0, 1, 2, 3, 4]


async def test_who_only_begins_takes_room_too(api: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MOST", 2)
    await producer.progress("w", 10, 20)
    go_on, find = asyncio.Event(), History.find
    looking = 0

    async def slow(history: History, *asked: Any, **more: Any) -> Any:
        nonlocal looking
        looking += 1
        await go_on.wait()
        return await find(history, *asked, **more)

    monkeypatch.setattr(History, "find", slow)
    asking = [asyncio.create_task(api.client.get("/replay/workflow/w?speed=max")) for _ in range(6)]
    await wait_until(lambda: sum(task.done() for task in asking) == 4 and looking == 2)
    go_on.set()
    answers = [await task for task in asking]
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503, 503]
    for _ in range(3):  # what is refused, or over before it begins, gives its room back
        assert (await api.client.get("/replay/workflow/unheard")).status_code == 404
    assert await _has_room(api)


async def test_the_longest_life_of_a_stream_ends_it_between_two_events(serve: Serve, producer: Producer) -> None:
    for hour, progress in enumerate((10, 20)):
        await log_at(producer, _DAY + _HOUR * hour, progress)
    async with serve(stream_lifetime=1, heartbeat_interval=1) as api:
        frames = await _replayed(api, "/replay/workflow/w")
    assert (frames[-1].data["reason"], frames[-1].data["reconnect"]) == ("lifetime", True)
    assert len(frames) == 3


async def test_a_client_that_reads_nothing_does_not_keep_its_room(
    serve: Serve, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MOST", 1)
    monkeypatch.setattr(replay, "_READS_WITHIN", 0.2)
    event = WorkflowProgress(workflow_id="w", step="work", progress=1, metadata={"x": "x" * 100_000})
    for number in range(100):
        await log_at(producer, _DAY + number, 1, event)
    async with serve() as api, api.watching("/replay/workflow/w?speed=max", read=False):
        await wait_until(lambda: _has_room(api), 10)
