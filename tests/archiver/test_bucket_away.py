"""A bucket that refuses, hangs or breaks off over HTTP costs nothing but time."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from core.log.archive.archive import Archive
from core.log.archive.store import StoreAwayError
from core.log.archive.wanted import Wanted
from core.log.history import History
from core.log.reader import LogReader
from tests.archiver.bucket_server import BucketServer, Fault
from tests.archiver.conftest import Archived
from tests.conftest import wait_until
from tests.core.telling import step

_FAULTS: Sequence[Fault] = ["refuses", "cuts", "hangs", "drops"]


@pytest.fixture
async def bucket(archived: Archived, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BucketServer]:
    """A bucket for the archiver of the test; whoever asks it gives up soon."""
    monkeypatch.setattr("services.archiver.moving._RETRY_SECONDS", 0.05)
    monkeypatch.setattr("core.log.archive.place._RETRIES", {"max_retries": 0})
    server = BucketServer()
    async with server.serving():
        monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{server.port}")
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_TIMEOUT", "300ms")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_REGION", "test")
        archived.settings = archived.settings.model_copy(update={"archive_url": "s3://bucket/archives"})
        yield server


@pytest.fixture
async def history(
    archived: Archived, bucket: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[History]:
    """The history as another machine reads it, which has no spool."""
    assert bucket
    monkeypatch.setattr("core.log.archive.place._own_folder", lambda: tmp_path / "own")
    settings = archived.settings.model_copy(update={"archive_spool": str(tmp_path / "none")})
    archive: Archive | None = settings.open_archive()
    assert archive is not None
    redis, keys = archived.deployment.redis, archived.deployment.keys
    yield History(LogReader(redis, keys), keys, archive)
    archive.close()


async def _publish(archived: Archived, count: int) -> None:
    await archived.deployment.publish(*(step(number % 100) for number in range(count)))
    await archived.settled()


@pytest.mark.parametrize("fault", _FAULTS)
async def test_while_it_fails_segments_wait_and_afterwards_all_is_there_once(
    archived: Archived, bucket: BucketServer, history: History, fault: Fault
) -> None:
    async with archived.deployment.projecting(stream_max_entries=10), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        await _publish(archived, 50)
        await wait_until(lambda: not archived.spool.segments(), 20)
        bucket.fail(fault)
        await _publish(archived, 200)
        await wait_until(lambda: bucket.failed > 2, 20)
        assert archived.spool.segments()
        with pytest.raises(StoreAwayError):
            await history.find(Wanted("default"), limit=1000)
        bucket.fail("none")
        await wait_until(lambda: not archived.spool.segments(), 20)
    rows = await history.find(Wanted("default"), limit=1000)
    assert len(rows) == len({row.event_id for row in rows}) == 250


async def test_what_was_cut_off_on_its_way_to_a_reader_is_not_kept(
    archived: Archived, bucket: BucketServer, history: History
) -> None:
    async with archived.deployment.projecting(), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        await _publish(archived, 500)
        await wait_until(lambda: not archived.spool.segments(), 20)
    await archived.deployment.redis.xtrim(archived.deployment.source().key, maxlen=0, approximate=False)
    for fault in _FAULTS:
        bucket.fail(fault)
        with pytest.raises(StoreAwayError):
            await history.find(Wanted("default"), limit=1000)
    bucket.fail("none")
    assert len(await history.find(Wanted("default"), limit=1000)) == 500
