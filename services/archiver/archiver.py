"""The archiver: one of a deployment at work, any others standing by."""

import asyncio
import secrets
import socket
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.archive.parquet import SegmentFileError
from core.log.archive.store import StoreAwayError
from core.log.checkpoint import NOTHING, Checkpoint
from core.log.keys import Keys
from core.log.layout import check_layout
from core.runtime.logs import get_logger
from core.runtime.memory import refuse_eviction
from core.runtime.tasks import running
from core.views.checkpoints import Checkpoints
from services.archiver import metrics
from services.archiver.beginning import Beginning
from services.archiver.compaction import Compactor
from services.archiver.erasing import Eraser
from services.archiver.moving import Mover
from services.archiver.retention import Retention
from services.archiver.settings import ArchiverSettings
from services.archiver.writing import Writer

_LOOKS: Final = 3
"""Looks at the log in the time that few events wait for others."""

_TIDIED_EVERY: Final = 20
"""Times that few events wait for others until small segments are looked for, and those that are too old."""

_RETRY_SECONDS: Final = 1.0
_LEASE_LOOKS: Final = 3

log = get_logger()


class FullSpoolError(Exception):
    """As much waits for the store as may: nothing more is archived until that takes some."""


class Archiver:
    """Has every event of the log written to segments, and these moved to the store.

    ``failing`` says what keeps it from going on, if anything; ``ready`` whether it has looked at the log.
    """

    def __init__(  # noqa: PLR0913 - one for each thing it has done
        self,
        redis: Redis,
        keys: Keys,
        settings: ArchiverSettings,
        *,
        beginning: Beginning,
        writer: Writer,
        mover: Mover,
        compactor: Compactor,
        retention: Retention,
        eraser: Eraser,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._sources = keys.sources()
        self._archived = ArchiveCheckpoints(redis)
        self._projected = Checkpoints(redis, keys)
        self._beginning = beginning
        self._writer = writer
        self._mover = mover
        self._compactor = compactor
        self._retention = retention
        self._eraser = eraser
        self._tidying = asyncio.Lock()
        self._spool = settings.open_spool()
        self._look_every = settings.archive_seconds / _LOOKS
        self._tidy_every = settings.archive_seconds * _TIDIED_EVERY
        self._spool_max = settings.archive_spool_max
        self._id = f"{socket.gethostname()[:64]}-{secrets.token_hex(4)}"
        self._holds = False
        self._begun = False
        self.failing: str | None = None
        self.ready = False

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Archive while the block runs.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached at the start.
            LayoutError: the deployment has another number of partitions.
        """
        await refuse_eviction(self._redis)
        await check_layout(self._redis, self._keys)
        await asyncio.to_thread(self._spool.claim)
        await asyncio.to_thread(self._spool.drop_unfinished)
        async with running(self._write(), self._mover.move(), self._tidy()):
            yield
        await self._give_up_lease()

    async def _write(self) -> None:
        while True:
            wait = _RETRY_SECONDS
            try:
                self._holds = await self._holds_lease()
                wait = await self._sweep() if self._holds else self._look_every
                self.ready = True
            except RedisError as error:
                self._tell_failure("redis", f"Redis is away: {error}")
            except SegmentFileError as error:
                self._tell_failure("disk", str(error))
            except StoreAwayError as error:
                self._tell_failure("store", str(error))
            except FullSpoolError:
                self._tell_failure("spool", "ARCHIVE_SPOOL_MAX is reached: the store has to take some first")
            except Exception as error:  # noqa: BLE001 - whatever it is: streams grow until the archiver goes on
                self._tell_failure("archiver", repr(error))
            else:
                self._tell_recovery()
            await asyncio.sleep(wait)

    async def _sweep(self) -> float:
        """Archive what is due of every source; returns the seconds until the next look."""
        projected = await self._projected.load_all(self._sources)
        archived = await self._archived.load(self._sources)
        more = False
        if not self._begun or None in archived.values():
            archived |= await self._beginning.begin()
            self._begun = True
        waiting = {source: _left(projected[source].lowest, archived[source] or NOTHING) for source in self._sources}
        metrics.WAITING.set(sum(waiting.values()))
        for source in self._sources:
            before = archived[source] or NOTHING
            if await asyncio.to_thread(self._spool.size) >= self._spool_max:
                raise FullSpoolError
            reached = await self._writer.write(source, before, projected[source].lowest)
            if reached != before:
                waiting[source] = _left(projected[source].lowest, reached)
                metrics.WAITING.set(sum(waiting.values()))
                more = more or waiting[source] > 0
                self._mover.wake()
        for tombstone in await self._eraser.due():
            async with self._tidying:
                await self._eraser.erase(tombstone, self._holds_lease)
        return 0 if more else self._look_every

    async def _tidy(self) -> None:
        """Bring small segments together and give up old ones now and then, while this archiver is the one at work."""
        while True:
            await asyncio.sleep(self._tidy_every)
            if not self._holds:
                continue
            now = datetime.now(UTC)
            async with self._tidying:
                await _attempt("erasing", self._eraser.restore())
                await _attempt("compaction", self._compactor.sweep(now.date()))
                await _attempt("retention", self._retention.sweep(now))

    async def _holds_lease(self) -> bool:
        """Whether this archiver is the one at work. Rivals would do no harm: they write everything twice."""
        milliseconds = round(self._look_every * _LEASE_LOOKS * 1000)
        holder = await self._redis.set(self._keys.archiver, self._id, nx=True, get=True, px=milliseconds)
        if holder is None:
            return True
        if holder != self._id.encode():
            return False
        await self._redis.pexpire(self._keys.archiver, milliseconds)
        return True

    async def _give_up_lease(self) -> None:
        with suppress(RedisError):  # then it runs out by itself
            if await self._redis.get(self._keys.archiver) == self._id.encode():
                await self._redis.unlink(self._keys.archiver)

    def _tell_failure(self, at: str, error: str) -> None:
        metrics.FAILURES.labels(at).inc()
        if at != self.failing:
            log.error("archiver cannot go on", at=at, error=error)
        self.failing = at

    def _tell_recovery(self) -> None:
        if self.failing is not None:
            log.info("archiver goes on", at=self.failing)
        self.failing = None


def _left(projected: Checkpoint, archived: Checkpoint) -> int:
    return max(0, projected.offset - archived.offset)


async def _attempt(at: str, chore: Awaitable[None]) -> None:
    """Do what may as well be done later: all events are there, in more files than are needed or for longer."""
    try:
        await chore
    except Exception as error:  # noqa: BLE001 - whatever it is, archiving goes on
        metrics.FAILURES.labels(at).inc()
        log.warning("archive is not tidied", at=at, error=str(error))
