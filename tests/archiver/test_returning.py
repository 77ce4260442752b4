"""Topics that are published to again after their views expired have the views they would have had all along."""

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from core.log.archive.listing import Listing
from core.log.archive.store import StoreAwayError
from pipai_contracts.ids import Topic
from services.projector import returning
from services.projector.returning import Returning
from tests.admin.conftest import Admin, admin
from tests.archiver.conftest import Archived
from tests.archiver.test_rebuilding import lose_views, of_the_archive, trim
from tests.conftest import wait_until
from tests.core.telling import step
from tests.projector.random_run import random_run

__all__ = ["admin", "of_the_archive"]

_A_YEAR = 365 * 24 * 3600


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was appended a moment ago counts as long expired, and is looked for at once."""
    monkeypatch.setattr(returning, "_LOOK_EVERY", 0.05)
    monkeypatch.setattr(returning, "_CLOCKS_MS", _A_YEAR * 1000)


def _of_the_archive(archived: Archived) -> dict[str, Any]:
    """The settings by which a projector finds it."""
    return archived.settings.model_dump(include={"archive_url", "archive_spool"})


def _counted(name: str) -> float:
    return REGISTRY.get_sample_value(f"pipai_{name}_topics_total") or 0


async def _expired(archived: Archived, *told: Any) -> None:
    """Have these events archived, the log trimmed behind them, and their views gone."""
    async with archived.deployment.projecting(), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        await archived.deployment.publish(*told)
        await archived.settled()
    await trim(archived)
    await lose_views(archived)


async def test_all_views_are_what_they_would_have_been(any_archived: Archived, admin: Admin) -> None:
    await _expired(any_archived, *random_run(1, 300))

    async def is_right() -> bool:
        return await admin("verify", partitions=any_archived.deployment.keys.partitions) == 0

    async with any_archived.deployment.projecting(**_of_the_archive(any_archived)):
        await any_archived.deployment.publish(*random_run(2, 300))
        await any_archived.projected()
        await wait_until(is_right, 30, "a view has no beginning")


async def test_a_user_has_their_workflows_back_with_the_next_notice_of_any(archived: Archived) -> None:
    await _expired(archived, *(step(100, of=f"w{number}").by("ada") for number in range(3)))
    before, ada = _counted("returned"), Topic.parse("default:user:ada")
    async with archived.deployment.projecting(**_of_the_archive(archived)):
        await archived.deployment.publish(step(10, of="new").by("ada"), step(10, of="other").by("bob"))
        await wait_until(lambda: _has(archived, ada, 4), 20)
        await archived.deployment.publish(step(20, of="new").by("ada"))
        await wait_until(lambda: _has(archived, ada, 5), 20)
    assert _counted("returned") - before == 1


async def _has(archived: Archived, topic: Topic, pos: int) -> bool:
    return (await archived.deployment.store.load([topic]))[topic].pos == pos


async def test_a_new_topic_is_left_alone(archived: Archived) -> None:
    await _expired(archived, step(10, of="old"))
    before, old, new = _counted("returned"), *(Topic.parse(f"default:workflow:{name}") for name in ("old", "new"))
    async with archived.deployment.projecting(**_of_the_archive(archived)):
        await archived.deployment.publish(step(10, of="new"))
        await wait_until(lambda: _has(archived, new, 1))
        version = (await archived.deployment.store.load([new]))[new].version
        await archived.deployment.publish(step(20, of="old"))
        await wait_until(lambda: _has(archived, old, 2), 20)
    assert (await archived.deployment.store.load([new]))[new].version == version
    assert _counted("returned") - before == 1


def _spoil(archived: Archived) -> None:
    for segment in Path(archived.settings.archive_url.removeprefix("file://")).rglob("*.parquet"):
        segment.write_bytes(b"not to be opened")


async def test_what_is_no_older_than_views_live_is_not_looked_at(archived: Archived) -> None:
    await _expired(archived, step(10, of="old"))
    _spoil(archived)
    assert [one async for one in archived.history.heard_of([Topic.parse("default:workflow:old")], 0)] == []


async def test_it_is_asked_again_when_the_archive_is_back(archived: Archived, monkeypatch: pytest.MonkeyPatch) -> None:
    await _expired(archived, step(10), step(20))
    topic = Topic.parse("default:workflow:w")
    asked: list[int] = []

    async def refuse(*_: Any) -> Any:
        asked.append(1)
        raise StoreAwayError("no")

    async with archived.deployment.projecting(**_of_the_archive(archived)):
        with monkeypatch.context() as broken:
            broken.setattr(Listing, "load", refuse)
            await archived.deployment.publish(step(30))
            await wait_until(lambda: len(asked) > 2)
            assert await _has(archived, topic, 1)
        await wait_until(lambda: _has(archived, topic, 3), 20)


async def test_no_more_wait_than_may_and_users_have_room_when_workflows_have_none(
    archived: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(returning, "_MOST", 10)
    looked: list[list[Topic]] = []
    unchecked = _counted("unchecked")
    waits: Any = Returning(archived.history, None, view_ttl=600)  # type: ignore[arg-type]
    waits.note([Topic("default", "workflow", str(number)) for number in range(8)])
    waits.note([Topic("default", "user", str(number)) for number in range(8)])

    async def heard_of(_: Any, topics: list[Topic], __: int) -> Any:
        looked.append(topics)
        return
        yield

    monkeypatch.setattr("core.log.history.History.heard_of", heard_of)
    await waits.look()
    await waits.look()
    assert [[topic.kind for topic in topics] for topics in looked] == [["workflow"] * 5 + ["user"] * 5, []]
    assert _counted("unchecked") - unchecked == 6
