"""A deployment whose events are archived: projectors and archivers that come and go, and a reader of all history."""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.log.archive.archive import Archive
from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.archive.parquet import Parquet
from core.log.archive.spool import Spool
from core.log.archive.spooled import Spooled
from core.log.history import History
from core.log.reader import Logged, LogReader
from services.archiver.archiver import Archiver
from services.archiver.main import build
from services.archiver.settings import ArchiverSettings
from tests.conftest import wait_until
from tests.projector.conftest import Deployment, deployed
from tests.projector.fresh_fold import is_projected


@dataclass
class Archived:
    """A deployment, its archive, and what reads both."""

    deployment: Deployment
    settings: ArchiverSettings
    history: History
    spool: Spool

    @asynccontextmanager
    async def archiving(self, **settings: Any) -> AsyncGenerator[Archiver]:
        """An archiver, as its process composes it."""
        async with AsyncExitStack() as stack:
            archiver = build(self.settings.model_copy(update=settings), stack)
            async with archiver.running():
                yield archiver

    async def is_archived(self) -> bool:
        """Whether everything that is projected is on a disk."""
        sources = self.deployment.keys.sources()
        archived = await ArchiveCheckpoints(self.deployment.redis).load(sources)
        projected = await self.deployment.checkpoints.load_all(sources)
        return all(archived[source] == projected[source].lowest for source in sources)

    async def projected(self) -> None:
        """Wait until all is in its views, whatever was trimmed meanwhile."""
        redis, keys = self.deployment.redis, self.deployment.keys
        await wait_until(lambda: is_projected(redis, keys), 20, "not everything was projected")

    async def settled(self) -> None:
        """Wait until all is projected, then until all of that is archived."""
        await self.projected()
        await wait_until(self.is_archived, 20, "not everything was archived")

    async def all_history(self) -> list[Logged]:
        """Every entry of every source."""
        return [logged for source in self.deployment.keys.sources() async for logged in self.history.read(source)]

    async def event_ids(self) -> Counter[str]:
        """How often each event is in the history."""
        return Counter(logged.entry.fields[b"id"].decode() for logged in await self.all_history())


@asynccontextmanager
async def archived_deployment(
    redis_url: str, key_prefix: str, folder: Path, partitions: int = 1
) -> AsyncGenerator[Archived]:
    """A deployment with an archive below ``folder``."""
    async with deployed(redis_url, key_prefix, partitions) as deployment:
        settings = ArchiverSettings.model_validate(
            {
                **deployment.settings.model_dump(include={"key_prefix", "stream_partitions"}),
                "redis_url": redis_url,
                "archive_url": (folder / "archive").as_uri(),
                "archive_spool": str(folder / "spool"),
                "archive_seconds": 0.1,
            }
        )
        spool = settings.open_spool()
        archive = Archive(
            settings.open_store(), spool, Parquet(folder / "sorting"), Spooled(deployment.redis, deployment.keys)
        )
        history = History(LogReader(deployment.redis, deployment.keys), deployment.keys, archive)
        yield Archived(deployment, settings, history, spool)
        archive.close()


@pytest.fixture
async def archived(redis_url: str, key_prefix: str, tmp_path: Path) -> AsyncIterator[Archived]:
    async with archived_deployment(redis_url, key_prefix, tmp_path) as made:
        yield made


@pytest.fixture(params=[1, 4], ids=["1 partition", "4 partitions"])
async def any_archived(
    redis_url: str, key_prefix: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Archived]:
    """With one partition, and with four."""
    async with archived_deployment(redis_url, key_prefix, tmp_path, request.param) as made:
        yield made


@pytest.fixture(autouse=True)
def quick_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let projectors look after what the group does not deliver without waiting for seconds."""
    monkeypatch.setattr("services.projector.partition._LOOK_EVERY", 0.2)
    monkeypatch.setattr("services.projector.survey._FRESH", 0.15)
    monkeypatch.setattr("services.projector.retention._LOOK_EVERY", 0.2)
