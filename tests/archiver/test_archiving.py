"""What was acknowledged is in the archive or still in the log, once, whatever happens to the archiver."""

from pathlib import Path
from typing import Any

import pytest

from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.archive.folder import FolderStore
from core.log.archive.spooled import Spooled
from core.log.archive.store import StoreAwayError
from core.log.archive.wanted import Wanted
from core.log.checkpoint import NOTHING, Checkpoint
from core.log.history import History
from core.log.keys import Source
from core.log.reader import LogReader
from services.archiver import writing
from tests.archiver.conftest import Archived
from tests.conftest import wait_until
from tests.core.telling import ai, analysis, notice, step


async def _publish(archived: Archived, count: int) -> list[str]:
    """This many events of every kind; returns their ids."""
    told = [step(1, of="w1").by("ada"), analysis(2, of="f1").by("ada"), ai("x", of="w1"), notice("n")]
    published = await archived.deployment.publish(*(told[number % 4] for number in range(count)))
    return [one.event_id for one in published]


async def test_every_event_is_found_once_though_the_streams_are_trimmed(any_archived: Archived) -> None:
    async with any_archived.deployment.projecting(stream_max_entries=10), any_archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        ids: list[str] = []
        for _ in range(6):
            ids += await _publish(any_archived, 100)
        await any_archived.settled()
        for source in any_archived.deployment.keys.sources():
            await wait_until(lambda at=source: _is_short(any_archived, at), 20, "the stream was not trimmed")

    assert dict(await any_archived.event_ids()) == dict.fromkeys(ids, 1)


async def _is_short(archived: Archived, source: Source) -> bool:
    return await archived.deployment.redis.xlen(source.key) <= 10


async def test_entries_come_back_byte_for_byte(archived: Archived) -> None:
    await _publish(archived, 40)
    source = archived.deployment.source()
    redis = archived.deployment.redis
    await redis.xadd(source.key, {b"what": b"\xff\x00 of another hand"})
    await redis.xadd(source.key, {b"id": b"x", b"v": b"9" * 30, b"type": b"workflow_progress", b"data": b"{"})
    before = [logged.entry async for logged in archived.history.read(source)]
    async with archived.deployment.projecting(), archived.archiving():
        await wait_until(archived.is_archived, 20)
        await _publish(archived, 4)  # behind what another hand wrote
        await archived.settled()
    await archived.deployment.redis.xtrim(source.key, maxlen=0, approximate=False)

    after = [logged async for logged in archived.history.read(source)]

    assert [logged.entry for logged in after][: len(before)] == before
    assert [logged.parked for logged in after] == [len(logged.entry.fields) < 10 for logged in after]


async def test_nothing_is_trimmed_that_is_not_archived(archived: Archived) -> None:
    async with archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
    async with archived.deployment.projecting(stream_max_entries=10):
        ids = await _publish(archived, 400)
        await archived.projected()

        assert await archived.deployment.redis.xlen(archived.deployment.source().key) == 100

    assert dict(await archived.event_ids()) == dict.fromkeys(ids, 1)


async def test_without_an_archive_streams_are_trimmed_as_ever(archived: Archived) -> None:
    async with archived.deployment.projecting(stream_max_entries=10):
        await _publish(archived, 400)
        await wait_until(lambda: _is_short(archived, archived.deployment.source()), 20)


async def test_an_archiver_that_dies_before_its_checkpoint_moved_repeats_nothing(
    archived: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: Any, **__: Any) -> bool:
        raise RuntimeError

    async with archived.deployment.projecting():
        ids = await _publish(archived, 200)
        await archived.deployment.settled()
        with monkeypatch.context() as broken:
            broken.setattr(ArchiveCheckpoints, "advance", die)
            async with archived.archiving():
                await wait_until(lambda: archived.spool.segments() or _stored(archived), 20)
        ids += await _publish(archived, 200)
        async with archived.archiving():
            await archived.settled()

    assert dict(await archived.event_ids()) == dict.fromkeys(ids, 1)
    found = await archived.history.find(Wanted("default"), limit=1000)
    assert len(found) == len(ids)


async def test_two_archivers_at_once_repeat_nothing(archived: Archived, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease keeps one of them from working; nothing rests on it."""
    monkeypatch.setattr("services.archiver.archiver.Archiver._holds_lease", _held)
    async with archived.deployment.projecting(), archived.archiving(), archived.archiving():
        ids: list[str] = []
        for _ in range(10):
            ids += await _publish(archived, 40)
            await archived.settled()

    assert dict(await archived.event_ids()) == dict.fromkeys(ids, 1)


async def _held(_: object) -> bool:
    return True


async def test_a_second_archiver_stands_by_until_the_first_is_gone(archived: Archived) -> None:
    async with archived.archiving() as second_comes:
        await wait_until(lambda: second_comes.ready)
        async with archived.archiving() as stands_by:
            await wait_until(lambda: stands_by.ready)
            holder = await archived.deployment.redis.get(archived.deployment.keys.archiver)
    async with archived.archiving() as third:
        await wait_until(lambda: third.ready)

        assert await archived.deployment.redis.get(archived.deployment.keys.archiver) != holder


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The store refuses for as long as the one value in here is true."""
    away, take = [True], FolderStore.take

    async def refuse(store: FolderStore, *given: Any) -> None:
        if away[0]:
            raise StoreAwayError("no")
        await take(store, *given)

    monkeypatch.setattr(FolderStore, "take", refuse)
    monkeypatch.setattr("services.archiver.moving._RETRY_SECONDS", 0.05)
    return away


async def test_while_the_store_is_away_segments_wait_and_are_read_where_they_are(
    archived: Archived, away: list[bool]
) -> None:
    async with archived.deployment.projecting(stream_max_entries=10), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        ids = await _publish(archived, 400)
        await archived.settled()
        await wait_until(lambda: _is_short(archived, archived.deployment.source()), 20)

        assert dict(await archived.event_ids()) == dict.fromkeys(ids, 1)
        assert archived.spool.segments()
        assert not _stored(archived)

        away[0] = False
        await wait_until(lambda: not archived.spool.segments(), 20)
    assert dict(await archived.event_ids()) == dict.fromkeys(ids, 1)


async def test_who_cannot_read_the_spool_is_told_that_something_waits_there(
    archived: Archived, away: list[bool], tmp_path: Path
) -> None:
    """The archiver is on another machine, and its store is away: what was trimmed is in neither place."""
    deployment = archived.deployment
    elsewhere = archived.settings.model_copy(update={"archive_spool": str(tmp_path / "another")})
    archive = elsewhere.open_archive(Spooled(deployment.redis, deployment.keys))
    history = History(LogReader(deployment.redis, deployment.keys), deployment.keys, archive)
    async with deployment.projecting(), archived.archiving():
        ids = await _publish(archived, 40)
        await archived.settled()
        with pytest.raises(StoreAwayError, match="wait on the disk of another machine"):
            await history.find(Wanted("default"), limit=100)
        away[0] = False
        await wait_until(lambda: _found(history, len(ids)), 20)
    assert not await deployment.redis.exists(deployment.keys.spooled)
    assert archive
    archive.close()


async def _found(history: History, count: int) -> bool:
    try:
        return len(await history.find(Wanted("default"), limit=100)) == count
    except StoreAwayError:
        return False


async def test_a_full_spool_stops_the_archive_and_the_trimming_not_the_publishing(
    archived: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> None:
        raise StoreAwayError("no")

    monkeypatch.setattr(FolderStore, "take", refuse)
    async with (
        archived.deployment.projecting(stream_max_entries=10),
        archived.archiving(archive_spool_max=1) as archiver,
    ):
        ids = await _publish(archived, 40)
        await wait_until(archived.spool.segments, 20)
        await wait_until(lambda: archiver.failing == "spool", 20)
        ids += await _publish(archived, 400)
        await archived.projected()

        assert len(await archived.all_history()) == len(ids)
        assert await archived.deployment.redis.xlen(archived.deployment.source().key) >= 100


async def test_a_disk_that_cannot_be_written_acknowledges_nothing(archived: Archived) -> None:
    archived.spool.folder.mkdir(parents=True)
    (archived.spool.folder / "stream=workflow-progress").write_text("no folder", encoding="utf-8")
    async with archived.deployment.projecting(), archived.archiving() as archiver:
        ids = await _publish(archived, 40)
        await archived.deployment.settled()
        await wait_until(lambda: archiver.failing == "disk", 20)
        source = archived.deployment.source()
        assert (await ArchiveCheckpoints(archived.deployment.redis).load([source]))[source] == NOTHING

        (archived.spool.folder / "stream=workflow-progress").unlink()
        await archived.settled()
        await wait_until(lambda: archiver.failing is None, 20)
    assert dict(await archived.event_ids()) == dict.fromkeys(ids, 1)


async def test_a_checkpoint_does_not_move_over_a_log_that_went_back(archived: Archived) -> None:
    """A failover lost what was read a moment ago: what comes then has smaller ids, and would never be archived."""
    await _publish(archived, 8)
    source, redis = archived.deployment.source(), archived.deployment.redis
    checkpoints = ArchiveCheckpoints(redis)
    begun = await checkpoints.begin(source)
    newest = await LogReader(redis, archived.deployment.keys).newest(source)

    assert not await checkpoints.advance(source, Checkpoint(9, newest.next), since=begun)
    assert not await checkpoints.advance(source, Checkpoint(4, newest), since=Checkpoint(1, newest.next))
    assert await checkpoints.advance(source, Checkpoint(4, newest), since=begun)
    assert (await checkpoints.load([source]))[source] == Checkpoint(4, newest)


async def test_a_large_backlog_is_written_in_segments_of_one_day(
    archived: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "ROWS", 30)
    async with archived.deployment.projecting():
        ids = await _publish(archived, 400)
        await archived.deployment.settled()
        async with archived.archiving():
            await archived.settled()
            await wait_until(lambda: not archived.spool.segments(), 20)

    assert len(_stored(archived)) >= 16
    assert dict(await archived.event_ids()) == dict.fromkeys(ids, 1)


def _stored(archived: Archived) -> list[Path]:
    return list(Path(archived.settings.archive_url.removeprefix("file://")).rglob("*.parquet"))
