"""A million events through ingest while archivers die: the archive alone is enough to prove every view."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx2
import pytest

from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.archive.place import ArchiveSettings
from core.log.history import History
from core.log.keys import Keys
from core.log.reader import LogReader
from core.log.scan import viewed_topics
from core.runtime.redis import command_client
from core.views.checkpoints import Checkpoints
from services.admin.main import main
from services.standalone.embedded import Server
from tests.conftest import wait_until
from tests.faults.scale import FULL, Scale
from tests.faults.services import Service, started

_BATCH: Final = 500
_EVENTS: Final = {False: 20_000, True: 1_000_000}
_REPEATED: Final = 0.05
"""Batches that are published twice."""

_PATIENCE: Final = 300


def _event(number: int) -> dict[str, Any]:
    workflow = number % 500
    return {
        "type": "workflow_progress",
        "event_id": f"e{number}",
        "workflow_id": f"workflow {workflow}",
        "user_id": f"user {workflow % 100}",
        "step": f"step {number // 500 % 7}",
        "progress": number // 500 % 100,
        "message": f"Reading page {number} of many",
    }


async def _publish(client: httpx2.AsyncClient, numbers: range, random: Random) -> None:
    """Publish until every event is acknowledged, as a producer does; now and then everything once more."""
    body = [_event(number) for number in numbers]
    for _ in range(2 if random.random() < _REPEATED else 1):
        acknowledged = False
        while not acknowledged:
            answer = await client.post("/stream/publish/batch", json=body)
            outcomes = answer.json()["outcomes"] if answer.status_code == 200 else [{"status": "unavailable"}]
            acknowledged = all(one["status"] in {"appended", "duplicate"} for one in outcomes)
            if not acknowledged:
                await asyncio.sleep(0.2)  # the backlog is full: a producer comes back


async def _publish_all(port: int, events: int, random: Random) -> None:
    batches = iter([range(start, start + _BATCH) for start in range(0, events, _BATCH)])
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

        async def some() -> None:
            for numbers in batches:
                await _publish(client, numbers, random)

        await asyncio.gather(*(some() for _ in range(4)))


@asynccontextmanager
async def _killed_again_and_again(service: Service, random: Random, most: float) -> AsyncGenerator[list[float]]:
    """Kill -9 at random moments while the block runs, and start anew each time; yields when that was."""
    killed: list[float] = []

    async def kill() -> None:
        while True:
            await asyncio.sleep(random.uniform(0.2, most))
            await service.kill()
            killed.append(time.monotonic())
            await service.start()

    killing = asyncio.create_task(kill())
    try:
        yield killed
    finally:
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
        await service.kill()
        await service.start()


@pytest.mark.timeout(1800)
async def test_the_archive_alone_proves_every_view(  # noqa: PLR0913, PLR0917 - fixtures
    tmp_path: Path,
    own_redis: Server,
    scale: Scale,
    seed: int,
    tell: Callable[[list[str]], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    events, random = _EVENTS[scale is FULL], Random(seed)
    places = {"ARCHIVE_URL": (tmp_path / "archive").as_uri(), "ARCHIVE_SPOOL": str(tmp_path / "spool")}
    values = {"REDIS_URL": own_redis.address, **places, "ARCHIVE_SECONDS": "0.5", "STREAM_MAX_ENTRIES": "1000"}
    ingest, projector, archiver = (
        Service(f"services.{name}", tmp_path, values) for name in ("ingest", "projector", "archiver")
    )
    redis, keys = command_client(own_redis.address), Keys()
    try:
        async with started(ingest, projector, archiver):
            begun = time.monotonic()
            async with _killed_again_and_again(archiver, random, 15 if scale is FULL else 1.5) as killed:
                await _publish_all(ingest.port, events, random)
            seconds = time.monotonic() - begun
            await wait_until(lambda: _is_archived(redis, keys), _PATIENCE, f"not everything is; see {archiver.log}")
        await _assert_all_is_there_once(redis, keys, places, events)
        for source in keys.sources():
            await redis.xtrim(source.key, maxlen=0, approximate=False)
        views = len([topic async for topic in viewed_topics(redis, keys)])
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        assert await asyncio.to_thread(main, ["verify"]) == 0
        assert f"verified {views}, different 0, unverifiable 0" in capsys.readouterr().out
    finally:
        await redis.aclose()
    assert views == 600
    assert killed
    tell([f"{events:,} events, {events / seconds:,.0f} a second", f"archiver killed {len(killed)} times", "600 views"])


async def _is_archived(redis: Any, keys: Keys) -> bool:
    sources = keys.sources()
    archived = await ArchiveCheckpoints(redis).load(sources)
    projected = await Checkpoints(redis, keys).load_all(sources)
    behind = [await redis.get(source.offset) for source in sources]
    return all(
        (archived[source] or projected[source].lowest) == projected[source].lowest
        and projected[source].lowest.offset == int(newest or 0)
        for source, newest in zip(sources, behind, strict=True)
    )


async def _assert_all_is_there_once(redis: Any, keys: Keys, places: dict[str, str], events: int) -> None:
    """Archive and log together have every event that was acknowledged, each once, and no other."""
    archive = ArchiveSettings.model_validate({name.lower(): value for name, value in places.items()}).open_archive()
    assert archive is not None
    seen, doubled = bytearray(events), list[str]()
    try:
        history = History(LogReader(redis, keys), keys, archive)
        async for logged in history.read(keys.source("workflow:progress", 0)):
            number = int(logged.entry.fields[b"id"][1:])
            if seen[number]:
                doubled.append(str(logged.entry.stream_id))
            seen[number] = 1
    finally:
        archive.close()
    assert not doubled
    assert seen.count(0) == 0
