"""Views are shown as they were at any moment, and what changed between two of them."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from core.log.history import History
from core.log.keys import Keys
from core.views.folds import evolve, initial, render
from core.views.store import ViewStore
from pipai_contracts.events import AiProgress, AnalysisProgress, Notification, WorkflowProgress
from pipai_contracts.ids import Kind, Topic
from pipai_contracts.record import StreamId
from services.archiver.main import build
from services.archiver.settings import ArchiverSettings
from tests.api.conftest import Api, Producer, Serve
from tests.conftest import wait_until
from tests.projector.fresh_fold import is_projected, read_log

USER = Topic.parse("default:user:ada")


@pytest.fixture
async def archived(
    serve: Serve, redis_url: str, key_prefix: str, tmp_path: Path, producer: Producer
) -> AsyncIterator[Api]:
    """An api with an archive, and an archiver at work."""
    assert producer
    archive = {"archive_url": (tmp_path / "archive").as_uri(), "archive_spool": str(tmp_path / "spool")}
    given = {"redis_url": redis_url, "key_prefix": key_prefix, "archive_seconds": 0.1, **archive}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(build(ArchiverSettings.model_validate(given), stack).running())
        yield await stack.enter_async_context(serve(**archive))


async def _day(producer: Producer, runs: int = 3) -> None:
    """Workflows, AI steps, files and notifications of one user, told by several at once."""

    async def work(number: int) -> None:
        of = f"w{number % 3}"
        for progress in (0, 40, 100):
            event = WorkflowProgress(workflow_id=of, step=f"s{progress}", progress=progress, message=f"{number}")
            await producer.publish(event, user_id="ada", run_id=f"r{number}")
            await producer.publish(AiProgress(workflow_id=of, step="think", delta="x"), user_id="ada")

    async def read(number: int) -> None:
        for progress in (10, 100):
            await producer.publish(
                AnalysisProgress(file_id=f"f{number}", step="read", progress=progress), user_id="ada"
            )
        await producer.publish(Notification(user_id="ada", title="done", message=str(number)))

    await asyncio.gather(*(work(number) for number in range(runs)), *(read(number) for number in range(runs)))
    await wait_until(lambda: _pos(producer, "user", "ada", 9 * runs), 20)


async def _pos(producer: Producer, kind: Kind, resource_id: str, pos: int) -> bool:
    return await producer.pos(kind, resource_id) == pos


async def _trim(producer: Producer) -> None:
    """Have the log lose all that is archived: everything."""
    for source in producer.keys.sources():
        if not await producer.redis.exists(source.key):
            continue
        await wait_until(lambda source=source: _is_archived(producer, source.archived, source.key), 20)
        await producer.redis.xtrim(source.key, maxlen=0, approximate=False)


async def _is_archived(producer: Producer, archived: str, key: str) -> bool:
    newest = (await producer.redis.xinfo_stream(key))["last-generated-id"]
    return ((await producer.redis.get(archived)) or b"").endswith(b" " + newest)


async def _at(api: Api, topic: Topic, at: object) -> Any:
    answer = await api.client.get(f"/views/{topic.kind}/{topic.id}", params={"at": str(at)})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_each_position_of_the_live_feed_is_the_view_as_it_was_then(archived: Api, producer: Producer) -> None:
    """Events of four streams come to a user's view in an order of its own, which the feed has."""
    await _day(producer)
    records = {
        (record.envelope.event.type, record.stream_id): record
        for record in await read_log(producer.redis, producer.keys)
    }
    await _trim(producer)
    feed = await ViewStore(producer.redis, producer.keys, feed_length=1, ttl=1).read_feed(USER, after=0, count=1000)
    state = initial(USER)
    for item in feed:
        state = evolve(state, records[item.event, item.stream_id])
        told = await _at(archived, USER, item.pos)
        assert told["view"] == render(state).model_dump(mode="json")
        assert told["at"]["pos"] == item.pos
        assert told["cursor"].endswith(f".{item.pos}")


async def test_a_position_the_feed_has_no_longer_counts_the_events_in_the_order_of_the_log(
    archived: Api, producer: Producer
) -> None:
    await _day(producer)
    records = [record for record in await read_log(producer.redis, producer.keys) if USER in record.topics]
    await _trim(producer)
    await producer.redis.unlink(producer.keys.view(USER), producer.keys.feed(USER))
    state = initial(USER)
    for pos, record in enumerate(sorted(records, key=lambda one: (one.stream_id, one.source)), start=1):
        state = evolve(state, record)
        told = await _at(archived, USER, pos)
        assert told["view"] == render(state).model_dump(mode="json")
        assert told["at"]["stream_id"] == str(record.stream_id)
        assert told["cursor"] is None


async def test_a_time_has_all_events_appended_until_then(archived: Api, producer: Producer) -> None:
    await _day(producer)
    records = [record for record in await read_log(producer.redis, producer.keys) if USER in record.topics]
    await _trim(producer)
    for milliseconds in {record.stream_id.milliseconds for record in records}:
        state = initial(USER)
        for record in records:
            if record.stream_id.milliseconds <= milliseconds:
                state = evolve(state, record)
        told = await _at(archived, USER, StreamId(milliseconds, 0).time)
        assert told["view"] == render(state).model_dump(mode="json")


async def test_a_cursor_of_the_past_goes_on_from_there(archived: Api, producer: Producer) -> None:
    await producer.progress("w", 10, 20, 30)
    told = await _at(archived, Topic.parse("default:workflow:w"), 2)
    answer = await archived.client.get("/events/workflow/w", params={"after": told["cursor"]})
    assert [event["data"]["progress"] for event in answer.json()["events"]] == [30]


async def test_what_changed_is_told_with_the_event_that_did_it(archived: Api, producer: Producer) -> None:
    await producer.progress("w", 10, message="began", user_id="ada")
    await producer.publish(WorkflowProgress(workflow_id="w", step="work", progress=20, message="slow"))
    await producer.publish(WorkflowProgress(workflow_id="w", step="work", progress=20, message="slow"))
    await producer.publish(WorkflowProgress(workflow_id="w", step="work", progress=25, error="boom"))
    await wait_until(lambda: _pos(producer, "workflow", "w", 4), 10)
    answer = await archived.client.get("/views/workflow/w/diff", params={"from": 1, "to": 3})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["from"]["pos"], told["to"]["pos"], told["events"]) == (1, 3, 2)
    changed = {one["path"]: one for one in told["changes"]}
    assert (changed["/progress"]["before"], changed["/progress"]["after"]) == (10, 20)
    assert changed["/progress"]["by"]["pos"] == 2, "the third said nothing new"
    assert changed["/message"]["by"]["event_id"] == changed["/progress"]["by"]["event_id"]
    assert "/status" not in changed
    told = (await archived.client.get("/views/workflow/w/diff", params={"from": 0})).json()
    status = next(one for one in told["changes"] if one["path"] == "/status")
    assert (status["after"], status["by"]["pos"]) == ("failed", 4)
    assert told["from"] == {"pos": 0, "event_id": None, "stream": None, "stream_id": None, "event": None, "time": None}


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/views/workflow/w?at=yesterday", 422, "query.at: must be a position"),
        ("/views/workflow/w?at=4", 404, "workflow:w has 3 events"),
        ("/views/workflow/w?at=0", 404, "had no event by then"),
        ("/views/workflow/w?at=2001-01-01T00:00:00Z", 404, "had no event by then"),
        ("/views/workflow/other?at=1", 404, "had no event by then"),
        ("/views/workflow/w/diff", 422, "query.from"),
        ("/views/workflow/w/diff?from=1&to=9", 404, "the topic has 3 events"),
        ("/views/workflow/w/diff?from=9", 404, "the topic has 3 events up to the second moment"),
        ("/views/workflow/w/diff?from=3&to=1", 422, "the first moment is after the second"),
        ("/views/workflow/w/diff?from=2999-01-01T00:00:00Z&to=1", 422, "the first moment is after the second"),
        ("/views/workflow/w/diff?from=2001-01-02T00:00:00Z&to=2001-01-01T00:00:00Z", 422, "is after the second"),
    ],
)
async def test_a_moment_that_cannot_be_shown_is_refused_plainly(
    api: Api, producer: Producer, path: str, status: int, said: str
) -> None:
    await producer.progress("w", 10, 20, 30)
    answer = await api.client.get(path)
    assert answer.status_code == status
    assert said in answer.json()["detail"]


async def test_a_history_without_its_beginning_is_said_and_not_guessed(
    serve: Serve, producer: Producer, key_prefix: str
) -> None:
    """There is no archive, and the log was trimmed."""
    async with serve(archive_url="off") as api:
        await producer.progress("w", 10, 20, 30)
        await producer.redis.xtrim(Keys(key_prefix).source("workflow:progress", 0).key, maxlen=1, approximate=False)
        answer = await api.client.get("/views/workflow/w", params={"at": 2})
        assert answer.status_code == 410
        assert "are not in the history any more" in answer.json()["detail"]


@pytest.mark.parametrize("view", ["there", "gone"])
async def test_a_stream_of_the_topic_that_was_trimmed_further_than_another_is_noticed(
    serve: Serve, producer: Producer, view: str
) -> None:
    async with serve(archive_url="off") as api:
        for progress in (10, 20, 30):
            await producer.publish(WorkflowProgress(workflow_id="w", step="work", progress=progress))
            await producer.publish(AiProgress(workflow_id="w", step="think", delta="x"))
        await wait_until(lambda: _pos(producer, "workflow", "w", 6), 10)
        await producer.redis.xtrim(producer.keys.source("ai:progress", 0).key, maxlen=1, approximate=False)
        if view == "gone":
            await _expire(producer, Topic.parse("default:workflow:w"))
        for at in (1, 4, "2999-01-01T00:00:00Z"):
            answer = await api.client.get("/views/workflow/w", params={"at": at})
            assert answer.status_code == 410, answer.text
        assert (await api.client.get("/replay/workflow/w", params={"speed": "max"})).status_code == 410
        await producer.progress("new", 10)
        assert (await api.client.get("/views/workflow/new", params={"at": 1})).status_code == 200, "it began later"


@pytest.mark.parametrize("bases", [True, False], ids=["with bases", "without"])
async def test_an_archive_that_began_late_does_not_pass_for_the_beginning(
    serve: Serve, redis_url: str, key_prefix: str, tmp_path: Path, producer: Producer, *, bases: bool
) -> None:
    """It begins with what the live views were then, if that was kept."""
    await producer.progress("w", 10, 20, 30)
    await producer.redis.xtrim(producer.keys.source("workflow:progress", 0).key, maxlen=1, approximate=False)
    archive = {"archive_url": (tmp_path / "archive").as_uri(), "archive_spool": str(tmp_path / "spool")}
    given = {"redis_url": redis_url, "key_prefix": key_prefix, "archive_seconds": 0.1, **archive}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(build(ArchiverSettings.model_validate(given), stack).running())
        await _trim(producer)
        if not bases:
            shutil.rmtree(tmp_path / "archive" / key_prefix / "bases")
        api = await stack.enter_async_context(serve(**archive))
        assert (await api.client.get("/views/workflow/w", params={"at": 2})).status_code == 410
        await _expire(producer, Topic.parse("default:workflow:w"))
        again = await api.client.get("/views/workflow/w")
        assert again.status_code == (200 if bases else 404)
        assert (await api.client.get("/views/workflow/w", params={"at": 1})).status_code == 410


async def test_a_value_of_another_type_has_changed_too(api: Api, producer: Producer) -> None:
    """1, 1.0 and true are the same to Python."""
    for number, value in enumerate((1, True, 1.0), start=1):
        await producer.progress("w", 10, metadata={"n": value})
        answer = await api.client.get("/views/workflow/w/diff", params={"from": max(number - 1, 0), "to": number})
        assert answer.status_code == 200, answer.text
        [changed] = [one for one in answer.json()["changes"] if one["path"].startswith("/metadata")]
        assert changed["by"]["pos"] == number


async def test_more_between_two_moments_than_is_looked_at_is_refused(
    api: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.views.past.MOST_STEPS", 2)
    await producer.progress("w", 10, 20, 30)
    answer = await api.client.get("/views/workflow/w/diff", params={"from": 0})
    assert answer.status_code == 422
    assert "choose them closer together" in answer.json()["detail"]
    assert (await api.client.get("/views/workflow/w/diff", params={"from": 1})).status_code == 200


# Views that have expired


async def _expire(producer: Producer, topic: Topic) -> None:
    await producer.redis.unlink(producer.keys.view(topic), producer.keys.feed(topic))


async def test_a_view_that_expired_is_there_again_when_it_is_asked_for(archived: Api, producer: Producer) -> None:
    await _day(producer)
    before = (await archived.client.get("/views/user/ada")).json()
    events = (await archived.client.get("/events/user/ada", params={"limit": 1000})).json()["events"]
    await _trim(producer)
    await _expire(producer, USER)
    after = (await archived.client.get("/views/user/ada")).json()
    assert after["view"] == before["view"]
    again = (await archived.client.get("/events/user/ada", params={"limit": 1000})).json()["events"]
    assert sorted(str(event["data"]) for event in again) == sorted(str(event["data"]) for event in events)
    await producer.publish(Notification(user_id="ada", title="more", message="m"))
    await wait_until(lambda: _pos(producer, "user", "ada", len(events) + 1), 10)


async def test_a_view_that_is_folded_again_while_events_come_has_all_of_them(
    archived: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events come between its first page and its last."""
    monkeypatch.setattr("core.log.history._PAGE", 2)
    topic = Topic.parse("default:workflow:w")
    await producer.progress("w", *range(10, 60, 10))
    await _trim(producer)
    await _expire(producer, topic)
    find, late = History.find, iter(range(60, 90, 10))

    async def and_more_comes(history: History, *asked: Any, **more: Any) -> Any:
        found = await find(history, *asked, **more)
        if (progress := next(late, None)) is not None:
            await producer.publish(WorkflowProgress(workflow_id="w", step="work", progress=progress))
            await wait_until(lambda: _is_projected(producer), 10)
        return found

    monkeypatch.setattr(History, "find", and_more_comes)
    assert (await archived.client.get("/views/workflow/w")).status_code == 200
    assert await producer.pos("workflow", "w") == 8
    events = (await archived.client.get("/events/workflow/w")).json()["events"]
    assert [event["data"]["progress"] for event in events] == [*range(10, 90, 10)]


async def _is_projected(producer: Producer) -> bool:
    return await is_projected(producer.redis, producer.keys)


async def test_events_of_an_expired_view_are_found_though_nobody_asked_for_the_view(
    archived: Api, producer: Producer
) -> None:
    await producer.progress("w", 10, 20)
    await _trim(producer)
    await _expire(producer, Topic.parse("default:workflow:w"))
    events = (await archived.client.get("/events/workflow/w")).json()["events"]
    assert [event["data"]["progress"] for event in events] == [10, 20]


async def test_a_topic_nobody_published_to_is_looked_for_once(
    archived: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Topic] = []
    read = History.read_topic

    def counted(history: History, topic: Topic, *more: Any, **still: Any) -> Any:
        found.append(topic)
        return read(history, topic, *more, **still)

    monkeypatch.setattr(History, "read_topic", counted)
    answers = await asyncio.gather(*(archived.client.get("/views/workflow/none") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {404}
    assert (await archived.client.get("/events/workflow/none")).status_code == 404
    assert len(found) == 1
    await producer.progress("none", 10)
    assert (await archived.client.get("/views/workflow/none")).status_code == 200


def _spoil(folder: Path) -> None:
    for segment in folder.rglob("*.parquet"):
        segment.write_bytes(b"half")


async def test_while_the_archive_fails_an_expired_view_is_not_made_of_half_its_events(
    archived: Api, producer: Producer, tmp_path: Path
) -> None:
    await producer.progress("w", 10, 20)
    await _trim(producer)
    await _expire(producer, Topic.parse("default:workflow:w"))
    _spoil(tmp_path)
    assert (await archived.client.get("/views/workflow/w")).status_code == 503
