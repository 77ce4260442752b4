"""Projectors find in the archive what the log has no longer, where views have to hear of it once more."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from core.log.archive.archive import Archive
from core.log.archive.rows import Row
from core.log.archive.store import StoreAwayError
from core.log.keys import Keys
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId
from pipai_contracts.views import WorkflowView
from tests.archiver.conftest import Archived
from tests.conftest import wait_until
from tests.core.telling import step
from tests.projector.conftest import counted

W = Topic.parse("default:workflow:w")


def _of_the_archive(archived: Archived) -> dict[str, Any]:
    """The settings by which a projector finds it."""
    return archived.settings.model_dump(include={"archive_url", "archive_spool"})


async def _publish(archived: Archived, *progress: float) -> None:
    await archived.deployment.publish(*(step(one, f"s{one}") for one in progress))


async def _progress(archived: Archived) -> tuple[int, list[str]]:
    """How many events the view has heard of, and its steps."""
    stored = (await archived.deployment.store.load([W]))[W]
    assert isinstance(stored.state, WorkflowView)
    return stored.pos, [one.name for one in stored.state.steps]


async def test_a_view_that_cannot_be_read_is_made_again_with_its_beginning(archived: Archived) -> None:
    deployment = archived.deployment
    async with deployment.projecting(**_of_the_archive(archived)), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        await _publish(archived, 10, 20, 30)
        await archived.settled()
        await deployment.redis.xtrim(deployment.source().key, maxlen=0, approximate=False)
        await deployment.redis.unlink(deployment.keys.view(W))
        await deployment.redis.set(deployment.keys.view(W), "what another hand put here", ex=600)
        await _publish(archived, 40)
        await archived.projected()
        await wait_until(lambda: _is_whole(archived, 4), 10, "the view is not whole")
    assert await _progress(archived) == (4, ["s10", "s20", "s30", "s40"])


async def _is_whole(archived: Archived, pos: int) -> bool:
    return (await _progress(archived))[0] == pos


async def test_views_that_went_back_further_than_the_log_goes_hear_of_all_again(archived: Archived) -> None:
    """A view partition was put back from an old copy: what it has to hear of again was trimmed long ago."""
    deployment, keys = archived.deployment, archived.deployment.keys
    async with deployment.projecting(**_of_the_archive(archived)), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        await _publish(archived, 10)
        await archived.settled()
        old = await deployment.remember(*_views_of(keys))
        await _publish(archived, 20, 30, 40)
        await archived.settled()
    await deployment.redis.xtrim(deployment.source().key, maxlen=1, approximate=False)
    await deployment.go_back(old)
    lost = counted("pipai_lost_events_total")
    async with deployment.projecting(**_of_the_archive(archived)):
        await wait_until(lambda: _is_whole(archived, 4), 10, "the view is not whole")
    assert await _progress(archived) == (4, ["s10", "s20", "s30", "s40"])
    assert counted("pipai_lost_events_total") == lost


def _views_of(keys: Keys) -> list[str]:
    return [keys.view(W), keys.feed(W), keys.changes(0), keys.checkpoint(0)]


@pytest.mark.parametrize("times", [2, 1000])
async def test_an_archive_that_is_away_for_a_moment_costs_no_event(
    archived: Archived, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than that nobody waits: the rest of the log goes on."""
    monkeypatch.setattr("services.projector.missing._WAITS", (0.01, 0.01, 0.01))
    deployment, keys = archived.deployment, archived.deployment.keys
    async with deployment.projecting(**_of_the_archive(archived)), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        await _publish(archived, 10)
        await archived.settled()
        old = await deployment.remember(*_views_of(keys))
        await _publish(archived, 20, 30, 40)
        await archived.settled()
    await deployment.redis.xtrim(deployment.source().key, maxlen=1, approximate=False)
    await deployment.go_back(old)
    read, asked = Archive.read, 0

    async def away(archive: Archive, *wanted: Any, **more: Any) -> AsyncGenerator[list[Row]]:
        nonlocal asked
        asked += 1
        if asked <= times:
            raise StoreAwayError("away")
        async for rows in read(archive, *wanted, **more):
            yield rows

    monkeypatch.setattr(Archive, "read", away)
    lost, found = counted("pipai_lost_events_total"), 4 if times == 2 else 2
    async with deployment.projecting(**_of_the_archive(archived)):
        await wait_until(lambda: _is_whole(archived, found), 10, "the projector did not go on")
    assert counted("pipai_lost_events_total") == lost + 4 - found


async def test_without_its_archive_a_projector_goes_on_and_counts_what_is_missing(archived: Archived) -> None:
    deployment, keys = archived.deployment, archived.deployment.keys
    async with deployment.projecting(**_of_the_archive(archived)), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        await _publish(archived, 10)
        await archived.settled()
        old = await deployment.remember(*_views_of(keys))
        await _publish(archived, 20, 30, 40)
        await archived.settled()
    await deployment.redis.xtrim(deployment.source().key, maxlen=1, approximate=False)
    await deployment.go_back(old)
    for segment in archived.spool.folder.parent.parent.rglob("*.parquet"):
        segment.write_bytes(b"half")
    lost = counted("pipai_lost_events_total")
    async with deployment.projecting(**_of_the_archive(archived)):
        await wait_until(lambda: _is_whole(archived, 2), 10, "the projector did not go on")
    assert counted("pipai_lost_events_total") == lost + 2


async def test_what_was_parked_stays_parked_when_views_hear_of_everything_again(archived: Archived) -> None:
    """The archive says so though the list of what was parked has forgotten it with the log."""
    deployment, keys = archived.deployment, archived.deployment.keys
    source = deployment.source()
    async with deployment.projecting(**_of_the_archive(archived)), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        await _publish(archived, 10)
        await archived.settled()
        old = await deployment.remember(*_views_of(keys))
    async with deployment.projecting(**_of_the_archive(archived)):
        [parked] = await deployment.publish(step(20, "s20"))
        await archived.projected()
        await deployment.redis.zadd(
            keys.parked(source), {parked.stream_id: StreamId.parse(parked.stream_id).milliseconds}
        )
        async with archived.archiving():
            await _publish(archived, 30)
            await archived.settled()
    await deployment.redis.xtrim(source.key, maxlen=1, approximate=False)
    await deployment.redis.unlink(keys.parked(source))
    await deployment.go_back(old)
    async with deployment.projecting(**_of_the_archive(archived)):
        await wait_until(lambda: _is_whole(archived, 2), 10, "the projector did not go on")
    assert await _progress(archived) == (2, ["s10", "s30"])
