"""Small segments become few, and nothing changes for who reads."""

from datetime import date
from pathlib import Path

import pytest

from core.log.archive.folder import FolderStore
from core.log.archive.segment import Segment
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
