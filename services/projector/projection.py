"""From a stretch of the log to its views: decode, fold, commit."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from core.log.dead import DeadLetters
from core.log.entry import Entry, decode
from core.log.errors import UndecodableEntryError
from core.log.keys import Keys, Source, partition_of
from core.runtime.logs import get_logger
from core.views.errors import ContendedViewError, GenerationChangedError
from core.views.project import fold_batch, topics_in
from core.views.store import MAX_VIEWS_PER_COMMIT, ViewStore
from core.views.stored import Stored, Update
from pipai_contracts.ids import Topic
from pipai_contracts.record import Record, StreamId
from services.projector import metrics

_CACHED_VIEWS: Final = 2_000
_MAX_ATTEMPTS: Final = 200

log = get_logger()


class Projection:
    """Projects entries of any source into views.

    Views that were just committed are kept in memory. That is a cache only: a commit succeeds when the stored
    version is still the one that was folded on.
    """

    def __init__(self, keys: Keys, store: ViewStore, dead: DeadLetters) -> None:
        self._keys = keys
        self._store = store
        self._dead = dead
        self._views: OrderedDict[Topic, Stored] = OrderedDict()
        self._generations: dict[int, int] = {}

    async def project(
        self, source: Source, entries: Sequence[Entry], since: StreamId, *, read_before: bool = False
    ) -> None:
        """Bring the entries, which follow the checkpoint ``since`` of ``source``, into every view they belong to.

        Entries that are no event, or that a fold cannot take, are parked instead.
        ``read_before``: they may have been projected before, so those that were parked then are left out.

        Raises:
            redis.exceptions.RedisError: some views may be committed; projecting the same again is safe.
            ViewsWentBackError: likewise.
            ContendedViewError: likewise.
        """
        if read_before:
            parked = await self._dead.parked_among(source, entries)
            entries = [entry for entry in entries if entry.stream_id not in parked]
        records: list[Record] = []
        unfit: dict[StreamId, Exception] = {}
        for entry in entries:
            try:
                records.append(decode(source, entry))
            except UndecodableEntryError as error:
                unfit[entry.stream_id] = error
        for record, error in await self._fold_and_commit(records, source, since):
            unfit[record.stream_id] = error
        for entry in entries:
            if entry.stream_id in unfit:
                await self._park(source, entry, unfit[entry.stream_id])

    async def begin_generation(self) -> None:
        """Tell every viewer that data was lost: raise the generation of all view partitions.

        Views in memory are forgotten: they may have heard of events that Redis no longer has in its own.
        """
        self._views.clear()
        for partition in range(self._keys.partitions):
            self._generations[partition] = await self._store.raise_generation(partition)

    async def _fold_and_commit(
        self, records: Sequence[Record], source: Source, since: StreamId
    ) -> list[tuple[Record, Exception]]:
        open_topics = set(topics_in(records))
        failed: list[tuple[Record, Exception]] = []
        for attempt in range(_MAX_ATTEMPTS):
            if not open_topics:
                return failed
            if attempt:
                await asyncio.sleep(random.uniform(0, 0.002 * min(attempt, 50)))  # noqa: S311 - jitter
            folded = fold_batch(records, await self._load(open_topics), only=open_topics)
            failed += folded.failed
            # Without this an event that one view refused could enter another when that is folded again.
            refused = {record.stream_id for record, _ in folded.failed}
            records = [record for record in records if record.stream_id not in refused]
            moved = await self._commit(folded.updates, source, since)
            metrics.MOVED.inc(len(moved))
            open_topics = moved
        raise ContendedViewError(f"{len(open_topics)} views were written by others {_MAX_ATTEMPTS} times in a row")

    async def _load(self, topics: set[Topic]) -> dict[Topic, Stored]:
        missing = [topic for topic in topics if topic not in self._views]
        if missing:
            self._views.update(await self._store.load(missing))
        return {topic: self._views[topic] for topic in topics if topic in self._views}

    async def _commit(self, updates: Sequence[Update], source: Source, since: StreamId) -> set[Topic]:
        """Commit, and return the topics whose views another wrote first."""
        moved: set[Topic] = set()
        by_partition: dict[int, list[Update]] = {}
        for update in updates:
            by_partition.setdefault(partition_of(update.topic, self._keys.partitions), []).append(update)
        for partition, all_updates in by_partition.items():
            for start in range(0, len(all_updates), MAX_VIEWS_PER_COMMIT):
                chunk = all_updates[start : start + MAX_VIEWS_PER_COMMIT]
                outcome = await self._commit_call(partition, chunk, source, since)
                moved |= self._settle(chunk, outcome)
        while len(self._views) > _CACHED_VIEWS:
            self._views.popitem(last=False)
        return moved

    async def _commit_call(
        self, partition: int, updates: Sequence[Update], source: Source, since: StreamId
    ) -> list[bool]:
        if partition not in self._generations:
            self._generations[partition] = await self._store.generation(partition)
        try:
            return await self._store.commit(
                partition, self._generations[partition], updates, source=source, since=since
            )
        except GenerationChangedError:
            del self._generations[partition]
            self._views.clear()
            return [False] * len(updates)

    def _settle(self, updates: Sequence[Update], outcome: Sequence[bool]) -> set[Topic]:
        """Keep what was written, forget what another wrote first; returns the topics of the latter."""
        moved: set[Topic] = set()
        for update, written in zip(updates, outcome, strict=True):
            if written:
                self._views[update.topic] = update.after
                self._views.move_to_end(update.topic)
            else:
                self._views.pop(update.topic, None)
                moved.add(update.topic)
        return moved

    async def _park(self, source: Source, entry: Entry, error: Exception) -> None:
        parked = await self._dead.park(source, entry, error)
        if parked.put_aside:
            log.error("dead letters began anew: their key had a wrong type and was put aside", stream=source.key)
        if not parked.now:
            return
        log.error("stream event parked", stream=source.key, stream_id=str(entry.stream_id), error=str(error))
        metrics.PARKED.labels(source.name).inc()
        if parked.pushed_out:
            log.error("oldest dead letters pushed out by newer ones", stream=source.key, letters=parked.pushed_out)
            metrics.PUSHED_OUT.labels(source.name).inc(parked.pushed_out)
