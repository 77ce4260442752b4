"""From a stretch of the log to its views: decode, fold, commit."""

import asyncio
import random
import secrets
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from itertools import count
from typing import Final

from redis.exceptions import ResponseError

from core.log.damage import REPAIRED
from core.log.dead import DeadLetters
from core.log.entry import Entry
from core.log.keys import Keys, Source, partition_of
from core.runtime.logs import get_logger
from core.views.checkpoints import Known
from core.views.errors import ContendedViewError, GenerationChangedError, RepairNeededError
from core.views.project import Folded, fold_batch, topics_in
from core.views.repair import Repair
from core.views.store import ViewStore, commit_calls
from core.views.stored import Stored, Update
from pipai_contracts.ids import Topic
from pipai_contracts.record import Record, StreamId
from services.projector import metrics
from services.projector.cache import ViewCache
from services.projector.stretch import Stretch, decode_stretch

_MAX_ATTEMPTS: Final = 200

_PORTION_STATES: Final = 4 * 1024 * 1024
_LEAST_PORTION: Final = 100
"""Entries that are folded at once: so many as have about so many bytes of stored views, and no fewer than these."""

log = get_logger()


class Projection:
    """Projects entries of any source into views.

    Views that were just folded are kept in memory, also before they are committed. That is a cache only: a commit
    succeeds when the stored version is the very one that was folded on.

    ``began`` is told of the topics that had no view before a commit.
    """

    def __init__(
        self,
        keys: Keys,
        store: ViewStore,
        dead: DeadLetters,
        repair: Repair,
        began: Callable[[Collection[Topic]], object] = lambda _: None,
    ) -> None:
        self._keys = keys
        self._repair = repair
        self._store = store
        self._dead = dead
        self._began = began
        self._views = ViewCache()
        self._generations: dict[int, int] = {}
        self._name = secrets.token_hex(6)
        self._folds = count(1)

    async def fold(
        self, source: Source, entries: Sequence[Entry], *, parked: AbstractSet[StreamId] | None = None
    ) -> Stretch:
        """Fold the entries into every view they belong to, on top of what was folded before. Nothing is stored.

        ``parked``: they may have been read before, and at least these were parked then: such are left out.

        Raises:
            redis.exceptions.RedisError: views could not be loaded.
            RepairNeededError: `repair_views` of them while nothing is being committed, and fold again.
        """
        known = set[StreamId]() if parked is None else {*parked, *await self._dead.parked_among(source, entries)}
        stretch = decode_stretch(source, entries, known)
        topics = set(topics_in(stretch.records))
        await self._learn_generations(topics)
        stretch.settle(self._fold(stretch.records, await self._load(topics), topics))
        for update in stretch.updates:
            self._views.put(update.topic, update.after, sum(len(entry.data) for entry in update.entries))
        return stretch

    @property
    def portion(self) -> int:
        """How many entries to fold at once: fewer where views are large, because all of theirs are in memory then."""
        return max(int(_PORTION_STATES // max(self._views.usual_bytes, 1)), _LEAST_PORTION)

    async def _learn_generations(self, topics: set[Topic]) -> None:
        """Know generations before the views: what a rival committed, and Redis loses now, must not pass for stored."""
        for partition in {partition_of(topic, self._keys.partitions) for topic in topics} - self._generations.keys():
            try:
                self._generations[partition] = await self._store.generation(partition)
            except (ResponseError, ValueError):  # of a key that is none of ours, or of its content
                if not self._count_repaired(await self._repair.partition(partition)):
                    raise
                await self._learn_generations(topics)  # a repair forgets those that were known
                return

    async def commit(self, stretch: Stretch, since: StreamId) -> None:
        """Bring a folded stretch, which follows the checkpoint ``since``, into Redis.

        Raises:
            redis.exceptions.RedisError: some views may be committed; projecting the same again is safe.
            ViewsWentBackError: likewise.
            ContendedViewError: likewise.
        """
        await self._park(stretch)  # before: after a crash a build that can fold these would count them as done
        moved = await self._commit(stretch, since)
        attempt = 0
        while moved:
            attempt += 1
            if attempt == _MAX_ATTEMPTS:
                raise ContendedViewError(f"{len(moved)} views were written by others {attempt} times in a row")
            metrics.MOVED.inc(len(moved))
            await asyncio.sleep(random.uniform(0, 0.002 * min(attempt, 50)))  # noqa: S311 - jitter
            await self._learn_generations(moved)
            # As they are stored: the next stretch may have been folded meanwhile, and its views in memory do not count.
            loaded = await self._load_stored(list(moved))
            stretch.settle(self._fold(stretch.records, loaded, moved))
            moved = await self._commit(stretch, since)
        await self._park(stretch)
        self._views.trim()

    async def begin_generation(self) -> None:
        """Tell every viewer that data was lost: raise the generation of all view partitions.

        Views in memory are forgotten: they may have heard of events that Redis no longer has in its own.
        """
        self.forget()
        for partition in range(self._keys.partitions):
            self._generations[partition] = await self._store.raise_generation(partition)
            self._store.newest.forget(partition)

    def known(self) -> dict[int, Known]:
        """What is known of each view partition."""
        newest = {partition: self._store.newest.get(partition) for partition in range(self._keys.partitions)}
        return {
            partition: Known(self._generations.get(partition), change.number if change is not None else None)
            for partition, change in newest.items()
        }

    def forget_generations(self) -> None:
        """Ask Redis for the generations again: one is another by now."""
        self._generations.clear()

    def forget(self) -> None:
        """Forget the views in memory: some may never have been stored."""
        self._views.clear()

    def _fold(self, records: Sequence[Record], loaded: dict[Topic, Stored], only: set[Topic]) -> Folded:
        return fold_batch(records, loaded, version=f"{self._name}-{next(self._folds)}", only=only)

    async def _load(self, topics: set[Topic]) -> dict[Topic, Stored]:
        # Taken before the wait: what is committed meanwhile may forget them, which its own version check makes good.
        known = {topic: self._views[topic] for topic in topics if topic in self._views}
        missing = [topic for topic in topics if topic not in known]
        stored = await self._store.load(missing) if missing else {}
        if len(stored) < len(missing):
            raise RepairNeededError([topic for topic in missing if topic not in stored])
        return {**known, **stored}

    async def _load_stored(self, topics: Sequence[Topic]) -> dict[Topic, Stored]:
        """The views as they are stored; what cannot be read is made anew first."""
        loaded = await self._store.load(topics)
        if len(loaded) == len(topics):
            return loaded
        await self.repair_views([topic for topic in topics if topic not in loaded])
        return await self._store.load(topics)

    async def repair_views(self, topics: Collection[Topic]) -> None:
        """Make views that cannot be read anew. Never while a commit is under way that may do the same.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        self._count_repaired(await self._repair.views(topics))

    async def repair(self) -> None:
        """Put right what is wrong of the keys all views share, and of what remembers parked events.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        for partition in range(self._keys.partitions):
            self._count_repaired(await self._repair.partition(partition))
        self._count_repaired(await self._repair.parked())

    def _count_repaired(self, repaired: Sequence[str]) -> bool:
        for name in repaired:
            REPAIRED.labels(name).inc()
        if repaired:
            self._generations.clear()
            self.forget()
        return bool(repaired)

    async def _commit(self, stretch: Stretch, since: StreamId) -> set[Topic]:
        """Commit, and return the topics that are to be folded again."""
        by_partition: dict[int, list[Update]] = {}
        for update in stretch.updates:
            by_partition.setdefault(partition_of(update.topic, self._keys.partitions), []).append(update)
        # Started together, so that one call is written while Redis carries out the one before.
        calls = [
            self._commit_call(partition, call, stretch, since)
            for partition, of_partition in by_partition.items()
            for call in commit_calls(of_partition)
        ]
        moved: set[Topic] = set()
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, BaseException):
                self.forget()
                raise outcome
            moved |= outcome
        return moved

    async def _commit_call(
        self, partition: int, updates: Sequence[Update], stretch: Stretch, since: StreamId
    ) -> set[Topic]:
        """One call of the commit script; returns the topics whose views are not what was folded on, and forgets these.

        Under another generation that is all of them: also a view that had heard of everything may have gone back.
        """
        topics = [update.topic for update in updates]
        try:
            if partition not in self._generations:
                self._generations[partition] = await self._store.generation(partition)
            generation = self._generations[partition]
            outcome = await self._store.commit(partition, generation, updates, source=stretch.source, since=since)
        except GenerationChangedError:
            self._generations.pop(partition, None)
            self._store.newest.forget(partition)  # else what was lost would be told a second time
            self.forget()
            return set(topics_in(stretch.records))
        except (ResponseError, ValueError):  # of a key that is none of ours; ValueError: of its content
            if not self._count_repaired(await self._repair.after_failed_commit(partition, topics)):
                raise
            return set(topics)
        moved: set[Topic] = set()
        began: list[Topic] = []
        for update, size in zip(updates, outcome, strict=True):
            if size:
                self._views.measured(update.topic, size)
                if not update.before.version:
                    began.append(update.topic)
            else:
                self._views.forget(update.topic)
                moved.add(update.topic)
        self._began(began)
        return moved

    async def _park(self, stretch: Stretch) -> None:
        """Park what is unfit so far."""
        source = stretch.source
        for entry in stretch.entries if stretch.unfit else ():
            error = stretch.unfit.get(entry.stream_id)
            if error is None or entry.stream_id in stretch.parked:
                continue
            parked = await self._dead.park(source, entry, error)
            stretch.parked.add(entry.stream_id)
            if parked.put_aside:
                log.error("dead letters began anew: their key had a wrong type and was put aside", stream=source.key)
                REPAIRED.labels("dead").inc(parked.put_aside)
            if parked.now:
                log.error("stream event parked", stream=source.key, stream_id=str(entry.stream_id), error=str(error))
                metrics.PARKED.labels(source.name).inc()
            if parked.pushed_out:
                log.error("dead letters pushed out the oldest", stream=source.key, letters=parked.pushed_out)
                metrics.PUSHED_OUT.labels(source.name).inc(parked.pushed_out)
