"""Events are found over HTTP by what they are about, wherever they are kept."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from core.log.archive.folder import FolderStore
from core.log.archive.store import StoreAwayError
from core.log.keys import Keys
from pipai_contracts.events import Notification, WorkflowProgress
from services.archiver.main import build
from services.archiver.settings import ArchiverSettings
from tests.api.conftest import Api, Producer, Serve
from tests.conftest import wait_until


async def _found(api: Api, **asked: Any) -> list[Any]:
    answer = await api.client.get("/history/events", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["events"]


async def test_an_event_is_told_with_its_place_in_the_log(api: Api, producer: Producer) -> None:
    await producer.progress("w", 10, run_id="r", user_id="ada", message="began")
    [event] = await _found(api, kind="workflow", id="w")
    assert event.pop("event_id")
    assert event.pop("time").endswith("Z")
    milliseconds, _, sequence = event.pop("stream_id").partition("-")
    assert milliseconds.isdigit()
    assert sequence.isdigit()
    assert event == {
        "stream": "workflow:progress",
        "topic": "workflow:w",
        "offset": 1,
        "event": "workflow_progress",
        "v": 1,
        "data": {"workflow_id": "w", "step": "work", "progress": 10, "message": "began"},
        "user_id": "ada",
        "run_id": "r",
        "correlation_id": None,
        "causation_id": None,
        "parked": False,
    }


@pytest.mark.parametrize(
    "ends", [{"from": "0001-01-01T00:00:00Z"}, {"from": "1969-12-31T23:59:59Z", "to": "9999-12-31T00:00:00Z"}]
)
async def test_any_time_may_be_asked_for(api: Api, producer: Producer, ends: dict[str, str]) -> None:
    await producer.progress("w", 10)
    assert len(await _found(api, **ends)) == 1
    assert await _found(api, to="0001-01-01T00:00:00Z") == []


async def test_what_redis_has_no_longer_comes_from_the_archive(
    serve: Serve, producer: Producer, redis_url: str, key_prefix: str, tmp_path: Path
) -> None:
    archive = {"archive_url": (tmp_path / "archive").as_uri(), "archive_spool": str(tmp_path / "spool")}
    source = Keys(key_prefix).source("workflow:progress", 0)
    async with AsyncExitStack() as stack:
        given = {"redis_url": redis_url, "key_prefix": key_prefix, "archive_seconds": 0.1, **archive}
        settings = ArchiverSettings.model_validate(given)
        await stack.enter_async_context(build(settings, stack).running())
        await producer.progress("w", 10, 20, 30)
        await wait_until(lambda: _is_archived(producer, source.archived, 3), 20)
    await producer.redis.xtrim(source.key, maxlen=0, approximate=False)
    await producer.publish(Notification(user_id="ada", title="n", message="m"))

    async with serve(**archive) as api:
        assert [event["data"]["progress"] for event in await _found(api, id="w")] == [10, 20, 30]
        assert [event["event"] for event in await _found(api)] == ["workflow_progress"] * 3 + ["notification"]


async def test_what_came_of_one_request_is_found_together_in_log_and_archive(
    serve: Serve, producer: Producer, redis_url: str, key_prefix: str, tmp_path: Path
) -> None:
    archive = {"archive_url": (tmp_path / "archive").as_uri(), "archive_spool": str(tmp_path / "spool")}
    source = Keys(key_prefix).source("workflow:progress", 0)
    order = {"correlation_id": "order 7"}
    async with AsyncExitStack() as stack:
        given = {"redis_url": redis_url, "key_prefix": key_prefix, "archive_seconds": 0.1, **archive}
        settings = ArchiverSettings.model_validate(given)
        await stack.enter_async_context(build(settings, stack).running())
        await producer.publish(WorkflowProgress(workflow_id="w", step="s", progress=1), **order)
        await producer.publish(WorkflowProgress(workflow_id="w", step="s", progress=2))
        await wait_until(lambda: _is_archived(producer, source.archived, 2), 20)
    await producer.redis.xtrim(source.key, maxlen=0, approximate=False)
    await producer.publish(Notification(user_id="ada", title="n", message="m"), **order, causation_id="e0")

    async with serve(**archive) as api:
        found = await _found(api, correlation="order 7")
    assert [event["event"] for event in found] == ["workflow_progress", "notification"]
    assert [event["correlation_id"] for event in found] == ["order 7", "order 7"]
    assert [event["causation_id"] for event in found] == [None, "e0"]


async def _is_archived(producer: Producer, key: str, offset: int) -> bool:
    stored = await producer.redis.get(key)
    return isinstance(stored, bytes) and stored.startswith(f"{offset} ".encode())


async def test_pages_follow_each_other(api: Api, producer: Producer) -> None:
    await producer.progress("w", *range(7))
    pages: list[list[int]] = []
    after: dict[str, str] = {}
    while True:
        answer = (await api.client.get("/history/events", params={"id": "w", "limit": 3, **after})).json()
        pages.append([event["data"]["progress"] for event in answer["events"]])
        if answer["next"] is None:
            break
        after = {"after": answer["next"]}
    assert pages == [[0, 1, 2], [3, 4, 5], [6]]


async def test_filters_narrow_it_down(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, user_id="ada")
    await producer.publish(
        Notification(user_id="ada", title="n", message="m"), Notification(user_id="bob", title="n", message="m")
    )
    assert len(await _found(api, user="ada")) == 2
    assert len(await _found(api, type="notification")) == 2
    assert len(await _found(api, kind="user", id="bob")) == 1
    assert len(await _found(api, **{"from": "2025-01-01T00:00:00Z"})) == 3
    assert await _found(api, to="2025-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"kind": "planet"}, "query.kind"),
        ({"type": "planet"}, "query.type"),
        ({"from": "yesterday"}, "query.from"),
        ({"to": "2025-01-01"}, "query.to"),
        ({"after": "7"}, "query.after"),
        ({"limit": "0"}, "query.limit"),
        ({"id": ""}, "query.id"),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_its_name(api: Api, asked: dict[str, str], where: str) -> None:
    answer = await api.client.get("/history/events", params=asked)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["where"] == where


async def test_an_archive_that_is_away_is_said_instead_of_leaving_events_out(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise StoreAwayError("no")

    monkeypatch.setattr(FolderStore, "segments", away)
    answer = await api.client.get("/history/events")
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/archive-unavailable"
    assert answer.headers["retry-after"] == "5"
