"""Segments in a bucket: uploaded whole, copied to be read, and no more copies than were allowed."""

import os
from pathlib import Path

import pytest
from obstore.store import MemoryStore, S3Store

from core.log.archive.archive import Archive
from core.log.archive.bucket import BucketStore
from core.log.archive.parquet import Parquet, SegmentFileError
from core.log.archive.place import ArchiveSettings
from core.log.archive.segment import Segment
from core.log.archive.spool import Spool
from core.log.archive.store import StoreAwayError
from core.log.archive.wanted import Wanted
from core.log.entry import Entry
from core.log.keys import Keys
from core.log.reader import Logged
from pipai_contracts.record import StreamId

_SOURCE = Keys().source("workflow:progress", 0)


def _write(folder: Path, number: int) -> tuple[Path, Segment]:
    """A segment with one event."""
    stream_id = StreamId(1_000_000 + number, 0)
    names = {"id": f"e{number}", "type": "workflow_progress", "v": "1", "tenant": "default", "topic": "workflow:w"}
    more = {"offset": str(number), "user": "", "run": "", "time": "2025-01-01T00:00:00.000Z", "data": "{}"}
    fields = {name.encode(): value.encode() for name, value in {**names, **more}.items()}
    segment = Segment(_SOURCE.name, stream_id, stream_id)
    file = folder / f"{number}.parquet"
    parquet = Parquet(folder / "sorting")
    parquet.write([Logged(_SOURCE, Entry(stream_id, fields), parked=False)], file)
    parquet.close()
    return file, segment


async def test_what_is_uploaded_can_be_found_and_is_gone_here(tmp_path: Path) -> None:
    store = BucketStore(MemoryStore(), tmp_path / "copies")
    file, segment = _write(tmp_path, 1)
    await store.take(file, segment)
    archive = Archive(store, Spool(tmp_path / "spool"), Parquet(tmp_path / "sorting"))
    try:
        [row] = await archive.find(Wanted("default"), after=None, limit=10)
    finally:
        archive.close()
    assert row.event_id == "e1"
    assert not file.exists()
    assert (await store.segments("workflow:progress")).keys() == {segment}
    assert await store.segments("ai:progress") == {}


async def test_copies_that_were_not_used_for_long_go_first(tmp_path: Path) -> None:
    files = [_write(tmp_path, number) for number in range(1, 4)]
    size = files[0][0].stat().st_size
    store = BucketStore(MemoryStore(), tmp_path / "copies", most=2 * size + size // 2)
    for file, segment in files:
        await store.take(file, segment)
    first, second, third = [segment for _, segment in files]
    for moment, segment in enumerate((first, second)):
        os.utime(await store.file_of(segment), (moment, moment))
    await store.file_of(first)
    copy = await store.file_of(third)
    assert copy.exists()
    left = {file.name for file in (tmp_path / "copies").rglob("*.parquet")}
    assert left == {Path(first.path).name, Path(third.path).name}


async def test_what_was_written_again_is_copied_again(tmp_path: Path) -> None:
    """An erasure took something out of it: nobody is to read the old copy."""
    bucket = MemoryStore()
    writing, reading = BucketStore(bucket, tmp_path / "w"), BucketStore(bucket, tmp_path / "r")
    (file, segment), (other, _) = _write(tmp_path, 1), _write(tmp_path, 2)
    after = other.read_bytes()
    await writing.take(file, segment)
    await reading.segments("workflow:progress")
    copy = await reading.file_of(segment)
    assert copy.read_bytes() != after
    await writing.put(other, segment.path)
    await reading.segments("workflow:progress")
    assert (await reading.file_of(segment)).read_bytes() == after
    assert not copy.exists()


async def test_a_segment_that_went_while_it_was_asked_for_is_looked_for_again(tmp_path: Path) -> None:
    """Another process brought it together with others, and the list was a moment old."""
    store = BucketStore(MemoryStore(), tmp_path / "copies")
    (file, gone), (other, whole) = _write(tmp_path, 1), _write(tmp_path, 2)
    await store.take(file, gone)
    await store.take(other, whole)
    lists = [await store.segments("workflow:progress"), {whole: 1}]
    await store.delete([gone])

    class Behind(BucketStore):
        async def segments(self, stream: str) -> dict[Segment, int]:
            return {} if stream != "workflow:progress" else lists.pop(0)

    behind = Behind(store._bucket, tmp_path / "other copies")  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    archive = Archive(behind, Spool(tmp_path / "spool"), Parquet(tmp_path / "sorting"))
    try:
        [row] = await archive.find(Wanted("default"), after=None, limit=10)
    finally:
        archive.close()
    assert row.event_id == "e2"


async def test_a_damaged_segment_is_said_and_not_left_out(tmp_path: Path) -> None:
    store = BucketStore(MemoryStore(), tmp_path / "copies")
    file, segment = _write(tmp_path, 1)
    file.write_bytes(file.read_bytes()[:-100])
    await store.take(file, segment)
    archive = Archive(store, Spool(tmp_path / "spool"), Parquet(tmp_path / "sorting"))
    try:
        with pytest.raises(SegmentFileError):
            await archive.find(Wanted("default"), after=None, limit=10)
    finally:
        archive.close()


async def test_a_bucket_that_does_not_answer_is_away_and_the_file_stays(tmp_path: Path) -> None:
    file, segment = _write(tmp_path, 1)
    bucket = S3Store(
        "bucket",
        endpoint="http://127.0.0.1:9",
        region="nowhere",
        skip_signature=True,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    store = BucketStore(bucket, tmp_path / "copies")
    with pytest.raises(StoreAwayError):
        await store.take(file, segment)
    with pytest.raises(StoreAwayError):
        await store.segments("workflow:progress")
    assert file.exists()


def test_an_address_that_names_no_store_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ARCHIVE_URL ftp://… names no store"):
        ArchiveSettings.model_validate({"archive_url": "ftp://somewhere"}).open_store()


def test_off_is_no_archive() -> None:
    off = ArchiveSettings.model_validate({"archive_url": "off"})
    assert off.open_archive() is None
    with pytest.raises(ValueError, match="ARCHIVE_URL is off"):
        off.open_store()
