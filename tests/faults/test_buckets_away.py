"""A bucket that fails in the middle of what it is asked for, over HTTP: nothing is lost, left out or told twice."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from prometheus_client import REGISTRY

from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.archive.parquet import Parquet
from core.log.archive.spooled import Spooled
from core.log.archive.store import StoreAwayError
from core.log.keys import SOURCES
from services.api.settings import ApiSettings
from services.archiver import writing
from services.archiver.compaction import Compactor
from tests.api.conftest import Api, serving
from tests.archiver.bucket_server import BucketServer, Fault, Operation
from tests.archiver.conftest import Archived, archived_deployment
from tests.conftest import wait_until
from tests.core.telling import ai, analysis, notice, step


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[BucketServer]:
    """A bucket at work; who asks it is as patient as ever, but the archiver tries again soon."""
    monkeypatch.setattr("services.archiver.archiver._RETRY_SECONDS", 0.05)
    monkeypatch.setattr("services.archiver.moving._RETRY_SECONDS", 0.05)
    monkeypatch.setattr("services.archiver.moving._LONGEST_RETRY", 0.1)
    monkeypatch.setattr("core.log.archive.place._own_folder", lambda: tmp_path / "own")
    server = BucketServer()
    async with server.serving():
        named = {"ENDPOINT": f"http://127.0.0.1:{server.port}", "ALLOW_HTTP": "true", "REGION": "test"}
        for name, value in {**named, "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        yield server


@pytest.fixture
async def archived(redis_url: str, key_prefix: str, bucket: BucketServer, tmp_path: Path) -> AsyncIterator[Archived]:
    """A deployment whose archive is that bucket."""
    assert bucket.port
    async with archived_deployment(redis_url, key_prefix, tmp_path) as made:
        made.settings = made.settings.model_copy(update={"archive_url": "s3://bucket/archives"})
        yield made


@asynccontextmanager
async def _reading(archived: Archived, tmp_path: Path) -> AsyncGenerator[Api]:
    """The api on another machine than the archiver."""
    given = archived.settings.model_dump(include={"redis_url", "key_prefix", "archive_url"})
    spool = str(tmp_path / "elsewhere")
    async with serving(ApiSettings.model_validate({**given, "archive_spool": spool, "stream_block_time": 200})) as api:
        await wait_until(api.ready, 20)
        yield api


async def _publish(archived: Archived, count: int) -> list[str]:
    """So many events of all sources by turns; returns their ids."""
    told = [step(1, of="w1"), analysis(2, of="f1"), ai("x", of="w1"), notice("n")]
    published = await archived.deployment.publish(*(told[number % 4] for number in range(count)))
    return [one.event_id for one in published]


async def _found(api: Api) -> list[str]:
    """What the history has, which answers."""
    answer = await api.client.get("/history/events", params={"limit": 1000})
    assert answer.status_code == 200, answer.text
    return [event["event_id"] for event in answer.json()["events"]]


async def _assert_refused(api: Api) -> None:
    answer = await api.client.get("/history/events", params={"limit": 1000})
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"] == "/problems/archive-unavailable"
    assert answer.headers["retry-after"] == "5"


async def _waits_nowhere(archived: Archived) -> bool:
    return not await archived.deployment.redis.exists(archived.deployment.keys.spooled)


async def _in_the_bucket_alone(archived: Archived, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sixty events, in three segments of each source; returns their ids, sorted."""
    monkeypatch.setattr(writing, "ROWS", 5)
    async with archived.deployment.projecting():
        ids = await _publish(archived, 60)
        await archived.projected()
        async with archived.archiving(archive_seconds=60):
            await archived.settled()
            await wait_until(lambda: _waits_nowhere(archived), 20)
    for source in archived.deployment.keys.sources():
        await archived.deployment.redis.xtrim(source.key, maxlen=0, approximate=False)
    return sorted(ids)


def _failures() -> float:
    return REGISTRY.get_sample_value("pipai_archive_failures_total", {"at": "store"}) or 0


async def _metrics_tell_what_waits(archived: Archived, published: int) -> bool:
    """Whether the metrics say how much waits for the store, and how many events wait to be written."""
    sources = archived.deployment.keys.sources()
    written = await ArchiveCheckpoints(archived.deployment.redis).load(sources)
    events = published - sum(checkpoint.offset for checkpoint in written.values() if checkpoint is not None)
    names = ("pipai_archive_spool_bytes", "pipai_archive_waiting_events")
    return [REGISTRY.get_sample_value(name) for name in names] == [archived.spool.size(), events]


async def _is_trimmed(archived: Archived) -> bool:
    redis, sources = archived.deployment.redis, archived.deployment.keys.sources()
    return all([await redis.xlen(source.key) <= 10 for source in sources])


@pytest.mark.parametrize("fault", ["refuses", "drops", "cuts"])
async def test_while_uploads_fail_the_spool_fills_up_and_then_everything_goes_on(
    archived: Archived, bucket: BucketServer, fault: Fault, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failures, redis, source = _failures(), archived.deployment.redis, archived.deployment.source()
    async with (
        archived.deployment.projecting(stream_max_entries=10),
        archived.archiving(archive_spool_max=1) as archiver,
        _reading(archived, tmp_path) as api,
    ):
        await wait_until(lambda: archiver.ready)
        bucket.fail(fault, "put")
        ids = await _publish(archived, 40)
        await wait_until(lambda: archiver.failing == "spool", 20)
        ids += await _publish(archived, 400)
        await archived.projected()
        await wait_until(lambda: _failures() >= failures + 2, 20)
        assert archived.spool.segments()
        assert await redis.xlen(source.key) >= 100, "what is not archived is not trimmed"
        await wait_until(lambda: _metrics_tell_what_waits(archived, len(ids)), 20)
        if fault == "cuts":  # it is in the bucket, and nobody told the archiver
            assert sorted(await _found(api)) == sorted(ids)
        else:
            await _assert_refused(api)

        bucket.fail("none")
        await archived.settled()
        ids += await _publish(archived, 4)  # trimming looks when something comes
        await wait_until(lambda: _is_trimmed(archived), 20)
        await archived.settled()
        await wait_until(lambda: _waits_nowhere(archived), 20)
        await wait_until(lambda: _metrics_tell_what_waits(archived, len(ids)), 20)
        assert archived.spool.size() == 0
        assert sorted(await _found(api)) == sorted(ids)
    told = capsys.readouterr().out
    assert told.count("archive store is away") == 1
    assert told.count("archive store is back") == 1
    assert "ARCHIVE_SPOOL_MAX is reached" in told


async def test_a_list_that_breaks_off_is_no_list_and_a_late_one_is_waited_for(
    archived: Archived, bucket: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await _in_the_bucket_alone(archived, monkeypatch)
    faults: list[tuple[Fault, int]] = [("refuses", 0), ("drops", 0), ("refuses", 1), ("cuts", 1), ("drops", 3)]
    async with _reading(archived, tmp_path) as api:
        assert sorted(await _found(api)) == ids
        for fault, after in faults:
            before = bucket.failed
            bucket.fail(fault, "list", after=after)
            await _assert_refused(api)
            assert 1 <= bucket.failed - before <= 4, "who asks is told soon"
            bucket.fail("none")
            assert sorted(await _found(api)) == ids

        before = bucket.failed
        bucket.fail("hangs", "list", after=1)
        asked = asyncio.create_task(_found(api))
        await wait_until(lambda: bucket.failed > before)
        bucket.fail("none")
        assert sorted(await asked) == ids


async def test_a_copy_that_breaks_off_is_made_anew(
    archived: Archived, bucket: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await _in_the_bucket_alone(archived, monkeypatch)
    copies = tmp_path / "own" / "copies"
    faults: list[tuple[Fault, int, int]] = [("refuses", 0, 500), ("cuts", 0, 503), ("drops", 2, 503), ("cuts", 5, 503)]
    async with _reading(archived, tmp_path) as api:
        for fault, after, status in faults:
            bucket.status = status
            bucket.fail(fault, "get", after=after)
            await _assert_refused(api)
            assert len(list(copies.rglob("*.parquet"))) == after
            bucket.fail("none")
            assert sorted(await _found(api)) == ids
            rmtree(copies)


@pytest.mark.parametrize(
    "failing",
    [("refuses", "get", 1), ("cuts", "put", 1), ("drops", "put", 0), ("refuses", "delete", 1), ("denies", "delete", 2)],
    ids=lambda failing: " ".join(map(str, failing)),
)
async def test_bringing_segments_together_may_break_off_anywhere(
    archived: Archived,
    bucket: BucketServer,
    failing: tuple[Fault, Operation, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault, operation, after = failing
    ids = await _in_the_bucket_alone(archived, monkeypatch)
    store, parquet = archived.settings.open_store(), Parquet(tmp_path / "sorting")
    spooled = Spooled(archived.deployment.redis, archived.deployment.keys)
    compactor = Compactor(store, spooled, parquet, tmp_path / "compacting")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    async with _reading(archived, tmp_path) as api:
        bucket.fail(fault, operation, after=after)
        with pytest.raises(StoreAwayError):
            await compactor.sweep(tomorrow.date())
        bucket.fail("none")
        assert sorted(await _found(api)) == ids
        await compactor.sweep(tomorrow.date())
        assert sorted(await _found(api)) == ids
    parquet.close()
    left: list[Any] = [segment for stream in SOURCES for segment in await store.segments(stream)]
    assert len(left) == len(SOURCES)
