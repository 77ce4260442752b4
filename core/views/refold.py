"""Folding views again from their history."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from redis.asyncio import Redis

from core.log.archive.archive import SlowSearchError
from core.log.archive.parquet import SegmentFileError
from core.log.archive.store import StoreAwayError
from core.log.history import History
from core.log.keys import Keys
from core.runtime.logs import get_logger
from core.views.checkpoints import Checkpoints
from core.views.project import fold_batch
from core.views.store import ViewStore
from core.views.stored import Stored, unheard_of
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, Record, StreamId

_PAGE: Final = 200
"""Events one commit writes: of the largest that is 50 MB."""

log = get_logger()


class Refolder:
    """Makes views of one deployment again that are gone."""

    def __init__(self, redis: Redis, keys: Keys, store: ViewStore, history: History) -> None:
        self._keys = keys
        self._store = store
        self._checkpoints = Checkpoints(redis, keys)
        self._history = history

    async def refold(self, partition: int, generation: int, topics: Sequence[Topic], *, whole: bool = False) -> int:
        """Fold the events up to the checkpoints into these views, which have none yet; returns how many events.

        What comes after the checkpoints comes to them as to every view. A view that somebody else writes meanwhile
        is theirs. While the archive fails they are folded from what Redis still has, unless they are to be ``whole``.

        Raises:
            redis.exceptions.RedisError: Redis did not answer; some views may be folded in part.
            GenerationChangedError: likewise.
            StoreAwayError, SegmentFileError, SlowSearchError: the archive fails, and they are to be ``whole``.
        """
        checkpoints = await self._checkpoints.load_all(self._keys.sources())
        upto = {source.name: copies.lowest.stream_id for source, copies in checkpoints.items()}
        count = 0
        for topic in topics:
            refolding = _Refolding(self._store, self._keys, topic, partition, generation)
            try:
                await refolding.fold(self._history, upto)
            except (StoreAwayError, SegmentFileError, SlowSearchError) as error:
                if whole:
                    raise
                log.warning("view is folded without the archive, which fails", topic=topic.path, error=str(error))
                await refolding.fold(self._history.without_archive, upto)
            count += refolding.view.pos
        return count


class _Refolding:
    """One view while it is folded again. ``lost``: somebody else wrote it."""

    def __init__(self, store: ViewStore, keys: Keys, topic: Topic, partition: int, generation: int) -> None:
        self._store = store
        self._source = keys.source("workflow:progress", partition)
        self._topic = topic
        self._partition = partition
        self._generation = generation
        self.view = unheard_of(topic)
        self.lost = False

    async def fold(self, history: History, upto: Mapping[str, StreamId]) -> None:
        """Fold the topic's events up to these positions, but for those it has heard of."""
        async for page in history.read_topic(self._topic, skip_newer=True):
            records = [record for record in page if record.stream_id <= upto[record.source]]
            for start in range(0, len(records), _PAGE):
                if not self.lost:
                    await self._commit(records[start : start + _PAGE])

    async def _commit(self, records: Sequence[Record]) -> None:
        loaded: dict[Topic, Stored] = {self._topic: self.view}
        version = f"refold-{secrets.token_hex(8)}"
        updates = fold_batch(records, loaded, version=version, only={self._topic}).updates
        if updates:
            [written] = await self._store.commit(
                self._partition, self._generation, updates, source=self._source, since=BEGINNING
            )
            self.lost = not written
            self.view = updates[0].after if written else self.view
