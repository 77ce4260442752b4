"""Small segments become few, and nothing changes for who reads."""

from datetime import date
from pathlib import Path

import pytest

from core.log.archive.folder import FolderStore
from core.log.archive.segment import Segment
from core.log.archive.spool import Spool
from core.log.archive.spooled import Spooled, Waiting
from core.log.archive.store import StoreAwayError
from pipai_contracts.record import StreamId
from services.archiver import compaction, writing
from services.archiver.compaction import LARGE, MANY, SMALL, chosen
from tests.archiver.conftest import Archived
from tests.conftest import wait_until
from tests.core.telling import ai, step

DAY = 24 * 3600 * 1000
TODAY = date(1970, 1, 2)


def _segment(number: int, *, day: int = 0, source: str = "notifications") -> Segment:
    at = day * DAY + number
    return Segment(source, StreamId(at, 0), StreamId(at, 9))


def test_the_small_ones_of_a_day_that_is_over_become_one() -> None:
    segments = [_segment(number) for number in range(3)]
    assert chosen(dict.fromkeys(segments, 1000), TODAY) == [segments]


def test_one_alone_stays() -> None:
    assert chosen({_segment(1): 1000, _segment(1, source="ai:progress"): 1000, _segment(1, day=1): 1000}, TODAY) == []


def test_today_only_many_are_worth_it() -> None:
    segments = [_segment(number, day=1) for number in range(MANY)]
    assert chosen(dict.fromkeys(segments, 1000), TODAY) == [segments]
    assert chosen(dict.fromkeys(segments[1:], 1000), TODAY) == []


def test_large_ones_are_left_alone_and_parts_are_bounded() -> None:
    segments = [_segment(number) for number in range(9)]
    sizes = dict.fromkeys(segments, SMALL - 1)
    sizes[segments[0]] = SMALL
    found = chosen(sizes, TODAY)
    assert [segment for part in found for segment in part] == segments[1:]
    assert all(sum(sizes[segment] for segment in part) <= LARGE for part in found)


def test_what_waits_in_a_spool_keeps_those_around_it_apart() -> None:
    segments = [_segment(number) for number in (10, 20, 40, 50)]
    sizes = dict.fromkeys(segments, 1000)
    between, of_another = (
        Waiting(source, "spool", StreamId(30, 0), StreamId(30, 0)) for source in ("notifications", "ai:progress")
    )
    assert chosen(sizes, TODAY, [between]) == [segments[:2], segments[2:]]
    assert chosen(sizes, TODAY, [of_another]) == [segments]
    assert chosen(sizes, TODAY, [Waiting("notifications", "spool", segments[0].first, segments[1].first)]) == [segments]


async def _many_segments(archived: Archived, monkeypatch: pytest.MonkeyPatch) -> int:
    """Forty events in segments of four; returns how many."""
    monkeypatch.setattr(writing, "ROWS", 4)
    async with archived.deployment.projecting():
        for _ in range(20):
            await archived.deployment.publish(step(1, of="w"), ai("x", of="w"))
        await archived.projected()
        async with archived.archiving(archive_seconds=60):
            await archived.settled()
            await wait_until(lambda: not archived.spool.segments(), 20)
    return 40


def _stored(archived: Archived) -> list[Path]:
    return list(Path(archived.settings.archive_url.removeprefix("file://")).rglob("*.parquet"))


async def test_events_are_the_same_before_and_after(archived: Archived, monkeypatch: pytest.MonkeyPatch) -> None:
    count = await _many_segments(archived, monkeypatch)
    before, many = await archived.all_history(), len(_stored(archived))
    monkeypatch.setattr(compaction, "MANY", 2)
    async with archived.archiving():
        await wait_until(lambda: len(_stored(archived)) == 2, 20)
    assert many == 10
    for source in archived.deployment.keys.sources():
        await archived.deployment.redis.xtrim(source.key, maxlen=0, approximate=False)
    assert await archived.all_history() == before
    assert len(before) == count


async def test_a_crash_before_the_small_ones_are_gone_doubles_nothing(
    archived: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = await _many_segments(archived, monkeypatch)
    monkeypatch.setattr(compaction, "MANY", 2)
    kept: list[object] = []

    async def keep(_: FolderStore, segments: object) -> None:
        kept.append(segments)
        raise StoreAwayError("no")

    with monkeypatch.context() as broken:
        broken.setattr(FolderStore, "delete", keep)
        async with archived.archiving():
            await wait_until(lambda: len(kept) >= 2, 20)
    assert len(_stored(archived)) > 2
    assert len(await archived.all_history()) == count
    async with archived.archiving():
        await wait_until(lambda: len(_stored(archived)) == 2, 20)
    assert len(await archived.all_history()) == count


async def test_an_archiver_that_died_before_it_told_of_its_move_keeps_nobody_from_reading(
    archived: Archived, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its last segment is in the store, and was brought together with others by the archiver that came after it."""
    count = await _many_segments(archived, monkeypatch)
    dead, spooled = Spool(tmp_path / "dead"), Spooled(archived.deployment.redis, archived.deployment.keys)
    dead.claim()
    moved = sorted(await archived.settings.open_store().segments("workflow:progress"))[2]
    await spooled.add(dead, moved)
    assert len(await archived.all_history()) == count

    monkeypatch.setattr(compaction, "MANY", 2)
    async with archived.archiving():
        await wait_until(lambda: len(_stored(archived)) == 2, 20)
    for source in archived.deployment.keys.sources():
        await archived.deployment.redis.xtrim(source.key, maxlen=0, approximate=False)
    assert len(await archived.all_history()) == count


async def test_what_a_dead_archiver_still_has_is_missed_though_older_segments_of_it_are_there(
    archived: Archived, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await _many_segments(archived, monkeypatch)
    dead, spooled = Spool(tmp_path / "dead"), Spooled(archived.deployment.redis, archived.deployment.keys)
    dead.claim()
    segments = sorted(await archived.settings.open_store().segments("workflow:progress"))
    await spooled.add(dead, segments[0])
    await spooled.add(dead, segments[2])
    await archived.settings.open_store().delete([segments[2]])
    for source in archived.deployment.keys.sources():
        await archived.deployment.redis.xtrim(source.key, maxlen=0, approximate=False)

    monkeypatch.setattr(compaction, "MANY", 2)
    async with archived.archiving():
        await wait_until(lambda: len(_stored(archived)) == 3, 20)
        with pytest.raises(StoreAwayError, match="wait on the disk of another machine"):
            await archived.all_history()
