"""Carrying out erasures in the archive: whoever writes segments also takes out of them what is to be forgotten."""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from core.log.archive.bases import Bases
from core.log.archive.blanking import blank, hits
from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.archive.durable import sync
from core.log.archive.parquet import Parquet
from core.log.archive.segment import Segment
from core.log.archive.spooled import Spooled
from core.log.archive.store import SegmentStore
from core.log.checkpoint import NOTHING
from core.log.keys import SOURCES, Keys
from core.log.read import read_entries
from core.log.tombstones import Hidden, Tombstone, Tombstones
from core.runtime.logs import get_logger
from core.views.erased import left_of
from pipai_contracts.record import StreamId

FOLDER: Final = "tombstones"
_NEVER: Final = 2**63
_AT_ONCE: Final = 64
"""Segments that are searched together."""

log = get_logger()


class Eraser:
    """Takes what tombstones hide out of the segments and the bases of the store.

    Of each event its place is left, so that offsets go on proving the others. Doing it again after a crash finds what
    is left. Tombstones lie in the store, too: an archive that outlives its Redis is not read without them.
    """

    def __init__(
        self, redis: Redis, keys: Keys, store: SegmentStore, bases: Bases, parquet: Parquet, folder: Path
    ) -> None:
        self._redis = redis
        self._sources = keys.sources()
        self._tombstones = Tombstones(redis, keys)
        self._archived = ArchiveCheckpoints(redis)
        self._spooled = Spooled(redis, keys)
        self._store = store
        self._bases = bases
        self._parquet = parquet
        self._folder = folder

    async def restore(self) -> None:
        """Have a Redis that lost its tombstones take those of the archive."""
        known = await self._tombstones.load()
        for name in await self._store.names(FOLDER):
            file = await self._store.fetch(name)
            tombstone = Tombstone.from_json(await asyncio.to_thread(file.read_bytes))
            if tombstone.joined(known.get(tombstone.name)) != known.get(tombstone.name):
                await self._tombstones.add(tombstone)

    async def due(self) -> list[Tombstone]:
        """The tombstones that are to be carried out, once all that they hide is in the store."""
        waiting = [
            one for one in (await self._tombstones.load()).values() if not await self._tombstones.is_settled(one)
        ]
        if not waiting:
            return []
        spooled = min((one.oldest.milliseconds for one in await self._spooled.load()), default=_NEVER)
        return [one for one in waiting if one.until < spooled and await self._is_archived(one.until)]

    async def erase(self, tombstone: Tombstone, at_work: Callable[[], Awaitable[bool]]) -> None:
        """Carry one out. It is broken off when this archiver is not ``at_work`` any more.

        Raises:
            StoreAwayError, SegmentFileError, redis.exceptions.RedisError: it is to be done again.
        """
        await self._keep(tombstone)
        removed = 0
        for stream in SOURCES:
            segments = [one for one in await self._store.segments(stream) if one.first.milliseconds <= tombstone.until]
            for start in range(0, len(segments), _AT_ONCE):
                if not await at_work():
                    return
                removed += await self._erase_from(segments[start : start + _AT_ONCE], tombstone)
        hidden = Hidden([tombstone])
        await self._bases.change(lambda base: left_of(base, hidden))
        await self._tombstones.settle(tombstone, removed)
        log.info("a user was erased from the archive", events=removed, topics=len(tombstone.topics))

    async def _erase_from(self, segments: list[Segment], tombstone: Tombstone) -> int:
        files = {await self._store.file_of(segment): segment for segment in segments}
        found = await asyncio.to_thread(hits, self._parquet, list(files), tombstone)
        for file in found:
            target = self._folder / files[file].path
            await asyncio.to_thread(blank, self._parquet, file, tombstone, target)
            await self._store.take(target, files[file])
        return sum(found.values())

    async def _keep(self, tombstone: Tombstone) -> None:
        """Put the tombstone beside the segments."""
        name = blake2b(tombstone.name.encode(), digest_size=16).hexdigest()
        file = self._folder / name
        await asyncio.to_thread(_write, file, tombstone.to_json())
        await self._store.put(file, f"{FOLDER}/{name}.json")

    async def _is_archived(self, until: int) -> bool:
        """Whether everything appended up to that moment (milliseconds) is archived."""
        upto = StreamId(until + 1, 0)
        for source, archived in (await self._archived.load(self._sources)).items():
            after = (archived or NOTHING).stream_id
            if after < upto and await read_entries(self._redis, source, after=after, upto=upto, count=1):
                return False
        return True


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    sync(file)
