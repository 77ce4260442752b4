"""A segment gives back what went into it, whatever a stream may hold, and its name says what it has."""

import asyncio
from datetime import date
from pathlib import Path
from random import Random
from shutil import copyfile

import pytest

from core.log.archive.archive import overlapping
from core.log.archive.parquet import Parquet, SegmentFileError
from core.log.archive.rows import entry_of
from core.log.archive.segment import LAST, Segment, day_of, end_of_day
from core.log.entry import Entry
from core.log.keys import Keys, Source
from core.log.reader import Logged
from pipai_contracts.record import BEGINNING, StreamId
from tests.conftest import wait_until

SOURCE = Keys().source("ai:progress", 0)
MOST = 2**64 - 1

ALL = {
    b"id": [b"e", "ä".encode(), b"\xff"],
    b"type": [b"ai_progress", b"planet", b""],
    b"v": [b"1", b"01", b"+1", b"99999999999", b"-3", b"one"],
    b"tenant": [b"default", b"", b"\xff"],
    b"topic": [b"workflow:w", b"'; drop", b"", b"\x00"],
    b"offset": [b"1", b"007", b"999999999999999", b"9" * 40, b"x"],
    b"user": [b"", b"ada"],
    b"run": [b"", b"r"],
    b"time": [b"2025-01-01T00:00:00.000Z", b"2025-01-01T00:00:00Z", b"0001-01-01T00:00:00.000Z", b"9999-99-99", b""],
    b"data": [b"{}", b'{"a":"\\u0000"}', b"\x00\xff", b""],
}
"""The fields of an entry as append writes it, each with values it writes first, then others'."""


def _fields(random: Random) -> dict[bytes, bytes]:
    """Fields of ours, most of them right, or of any hand."""
    if random.random() < 0.2:
        return {random.randbytes(2): random.randbytes(5) for _ in range(random.randrange(1, 4))}
    fields = {name: values[0] if random.random() < 0.8 else random.choice(values) for name, values in ALL.items()}
    if random.random() < 0.1:
        del fields[random.choice(list(fields))]
    if random.random() < 0.1:
        fields = dict(sorted(fields.items()))
    more = {
        b"correlation": random.choice([b"order 7", b"", b"\xff"]),
        b"causation": random.choice([b"e0", b""]),
        b"redriven": b"notifications 1-1",
        b"attempts": b"2",
    }
    few = random.sample(list(more), random.choice([0, 0, 0, 1, 2, 4]))
    return {
        **fields,
        **{name: more[name] for name in (few if random.random() < 0.3 else sorted(few, key=[*more].index))},
    }


@pytest.mark.parametrize("seed", range(10))
def test_every_entry_comes_back_byte_for_byte(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    stretch = [
        Logged(SOURCE, Entry(StreamId(1_700_000_000_000 + number, number), _fields(random)), random.random() < 0.5)
        for number in range(200)
    ]
    assert _read_back(tmp_path, stretch) == [(logged.entry, logged.parked) for logged in stretch]


@pytest.mark.parametrize(
    "stream_id", [StreamId(0, 1), StreamId(2**63, 2**63), StreamId(MOST, MOST), StreamId(10**15, 0)]
)
def test_ids_that_another_hand_made_up_come_back(tmp_path: Path, stream_id: StreamId) -> None:
    logged = Logged(SOURCE, Entry(stream_id, {b"what": b"ever"}), parked=False)
    assert _read_back(tmp_path, [logged]) == [(logged.entry, False)]
    assert end_of_day(stream_id) > stream_id or stream_id == LAST


def _read_back(folder: Path, stretch: list[Logged]) -> list[tuple[Entry, bool]]:
    segment = Segment(SOURCE.name, stretch[0].entry.stream_id, stretch[-1].entry.stream_id)
    parquet = Parquet(folder / "sorting")
    try:
        parquet.write(stretch, folder / segment.path)
        pages = list(parquet.read([folder / segment.path], after=BEGINNING, upto=LAST))
    finally:
        parquet.close()
    rows = [row for page in pages for row in page]
    assert {row.stream for row in rows} == {SOURCE.stream}
    return [(entry_of(row), row.parked) for row in rows]


@pytest.mark.parametrize("source", [*Keys().sources(), *Keys("pip-ai", 16).sources()], ids=lambda source: source.name)
def test_the_name_of_a_segment_says_what_it_has(source: Source) -> None:
    segment = Segment(source.name, StreamId(1_735_689_600_000, 0), StreamId(1_735_689_600_001, 7))
    assert Segment.parse(segment.path) == segment
    assert f"stream={source.stream.replace(':', '-')}/day=2025-01-01/" in segment.path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "x.parquet",
        "stream=planet/day=2025-01-01/all.1735689600000-0.1735689600000-0.parquet",
        "stream=notifications/day=2025-01-02/all.1735689600000-0.1735689600000-0.parquet",
        "stream=notifications/day=2025-01-01/#all.1735689600000-0.1735689600000-0.parquet",
        "stream=notifications/day=2025-01-01/01.1735689600000-0.1735689600000-0.parquet",
    ],
)
def test_other_files_are_no_segments(path: str) -> None:
    assert Segment.parse(path) is None


def test_a_day_begins_at_midnight_utc() -> None:
    midnight = StreamId(1_735_689_600_000, 0)
    assert day_of(midnight) == date(2025, 1, 1)
    assert day_of(StreamId(midnight.milliseconds - 1, 0)) == date(2024, 12, 31)
    assert end_of_day(midnight) == StreamId(midnight.milliseconds + 24 * 3600 * 1000, 0)


def test_segments_that_overlap_are_read_together() -> None:
    spans = [(1, 3), (2, 5), (6, 7), (5, 5), (9, 9)]
    segments = [Segment("notifications", StreamId(first, 0), StreamId(last, 0)) for first, last in spans]
    groups = overlapping(segments)
    assert [[(one.first.milliseconds, one.last.milliseconds) for one in group] for group in groups] == [
        [(1, 3), (2, 5), (5, 5)],
        [(6, 7)],
        [(9, 9)],
    ]


def _left(folder: Path) -> list[Path]:
    return list(folder.glob("*.parquet"))


def test_what_does_not_fit_into_memory_is_sorted_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder whose parents are not there yet."""
    monkeypatch.setattr("core.log.archive.parquet._MEMORY", "40MB")
    parquet = Parquet(tmp_path / "not" / "there" / "yet")
    try:
        many = "SELECT hash(i)::VARCHAR || repeat('x', 100) AS text FROM range(500000) t(i) ORDER BY text"
        assert sum(len(page) for page in parquet.ask(many, [])) == 500_000
    finally:
        parquet.close()


async def test_closing_breaks_off_what_is_under_way(tmp_path: Path) -> None:
    """A thread that still works with it would take the process down with it."""
    random, parquet = Random(1), Parquet(tmp_path / "sorting")
    stretch = [Logged(SOURCE, Entry(StreamId(number, 0), _fields(random)), parked=False) for number in range(1, 50_000)]
    segment = Segment(SOURCE.name, StreamId(1, 0), StreamId(49_999, 0))
    file = tmp_path / segment.path
    parquet.write(stretch, file)
    copies = [tmp_path / "stream=ai-progress" / f"{number}.parquet" for number in range(20)]
    for copy in copies:
        copyfile(file, copy)
    merging = asyncio.create_task(asyncio.to_thread(parquet.bring_together, copies, tmp_path / "whole.parquet"))
    await wait_until(lambda: list(tmp_path.glob("#*")))
    await asyncio.to_thread(parquet.close)
    with pytest.raises(SegmentFileError, match=r"(?i)interrupt"):
        await merging
    assert not _left(tmp_path)
    with pytest.raises(SegmentFileError, match="closed"):
        list(parquet.read([file], after=BEGINNING, upto=LAST))
