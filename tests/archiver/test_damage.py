"""Half-written files, full disks and clocks that jump: nothing is acknowledged early, nothing lost, nothing doubled."""

import errno
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.archive.parquet import SegmentFileError
from core.log.archive.segment import Segment, day_of
from core.log.archive.wanted import Wanted
from core.log.checkpoint import NOTHING
from core.log.history import GivenUp
from core.log.keys import SOURCES
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId
from tests.archiver.conftest import Archived, archived_deployment
from tests.conftest import wait_until
from tests.core.telling import step


async def _found(archived: Archived) -> list[str]:
    return [str(row.stream_id) for row in await archived.history.find(Wanted("default"), limit=1000)]


async def _publish(archived: Archived, count: int) -> list[str]:
    answers = await archived.deployment.publish(*(step(number % 100, "x" * 200) for number in range(count)))
    return [answer.stream_id for answer in answers]


# Files that are not whole


async def test_a_segment_that_is_not_whole_is_named_and_never_read_as_if_it_were(archived: Archived) -> None:
    async with archived.deployment.projecting(), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        await _publish(archived, 100)
        await archived.settled()
        await wait_until(lambda: not archived.spool.segments())
    await archived.deployment.redis.xtrim(archived.deployment.source().key, maxlen=0, approximate=False)
    store = archived.settings.open_store()
    [segment] = await store.segments("workflow:progress")
    file = await store.file_of(segment)
    whole = file.read_bytes()
    for half in (whole[: len(whole) // 2], whole[:-1], b""):
        file.write_bytes(half)
        with pytest.raises(SegmentFileError, match=file.name):
            await archived.history.find(Wanted("default"), limit=1000)
    file.write_bytes(whole)
    assert len(await archived.history.find(Wanted("default"), limit=1000)) == 100


async def test_what_a_writer_left_that_was_killed_is_written_anew(archived: Archived) -> None:
    begun = archived.spool.folder / Segment("workflow:progress", StreamId(1, 1), StreamId(2, 1)).path
    begun.parent.mkdir(parents=True)
    unfinished = begun.with_name(f"#{begun.name}")
    unfinished.write_bytes(b"PAR1 half of it")
    async with archived.deployment.projecting(), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        assert not unfinished.exists()
        ids = await _publish(archived, 100)
        await archived.settled()
    assert await _found(archived) == ids


# A disk that is full


class SmallDisk:
    """A disk of half a megabyte, to be filled up and freed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        with suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)

    def free(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDisk]:
    """A file system of its own; where none may be mounted, a folder whose files cannot grow while it is full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    disk = SmallDisk(folder)
    if mounted.returncode:
        _pretend(disk, monkeypatch)
    yield disk
    if not mounted.returncode:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _pretend(disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    full = [False]
    monkeypatch.setattr(disk, "fill", lambda: full.__setitem__(0, True))
    monkeypatch.setattr(disk, "free", lambda: full.__setitem__(0, False))

    def no_space(file: Path) -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device", str(file))

    monkeypatch.setattr("core.log.archive.parquet.sync", no_space)


@pytest.fixture
async def on_small_disk(redis_url: str, key_prefix: str, small_disk: SmallDisk) -> AsyncIterator[Archived]:
    async with archived_deployment(redis_url, key_prefix, small_disk.folder) as made:
        yield made


async def test_while_the_disk_is_full_nothing_is_acknowledged_and_then_it_goes_on(
    on_small_disk: Archived, small_disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    archived, source = on_small_disk, on_small_disk.deployment.source()
    checkpoints = ArchiveCheckpoints(archived.deployment.redis)
    async with archived.deployment.projecting(stream_max_entries=10), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        small_disk.fill()
        ids = await _publish(archived, 300)
        await wait_until(lambda: archiver.failing == "disk", 20)
        assert (await checkpoints.load([source]))[source] == NOTHING
        assert await archived.deployment.redis.xlen(source.key) == 300, "what is not archived is not trimmed"
        small_disk.free()
        await archived.settled()
        await wait_until(lambda: archiver.failing is None, 20)
    told = capsys.readouterr().out
    assert told.count("archiver cannot go on") == 1
    assert "archiver goes on" in told
    assert await _found(archived) == ids


# A clock that jumps


async def test_a_clock_that_jumps_ahead_and_back_changes_no_order(archived: Archived) -> None:
    """Redis gives out ids that rise, whatever its clock does: for a year they stand at the jump, then count on."""
    deployment, ahead = archived.deployment, datetime.now(UTC) + timedelta(days=365)
    jump = StreamId(int(ahead.timestamp()) * 1000, 0)
    async with deployment.projecting(), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        ids = await _publish(archived, 20)
        await archived.settled()
        redis: Any = deployment.redis
        await redis.xadd(deployment.source().key, {"jump": "of the clock"}, id=str(jump))
        ids += await _publish(archived, 20)
        await archived.settled()
        ids += await _publish(archived, 20)
        await archived.settled()
        await wait_until(lambda: not archived.spool.segments())
    await deployment.redis.xtrim(deployment.source().key, maxlen=0, approximate=False)
    topic = Topic("default", "workflow", "w")
    read = [str(record.stream_id) async for page in archived.history.read_topic(topic, GivenUp()) for record in page]
    assert read == ids
    assert StreamId.parse(read[20]) > jump
    store = archived.settings.open_store()
    segments = [segment for stream in SOURCES for segment in await store.segments(stream)]
    assert {day_of(segment.first) for segment in segments} == {datetime.now(UTC).date(), ahead.date()}
    since_jump = await archived.history.find(Wanted("default", since=jump.milliseconds), limit=1000)
    assert len([row for row in since_jump if row.topic == "workflow:w"]) == 40
