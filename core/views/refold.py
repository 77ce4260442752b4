"""Folding views again from what the log still has."""

import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from redis.asyncio import Redis

from core.log.entry import decode
from core.log.errors import UndecodableEntryError
from core.log.keys import Keys
from core.log.replay import LogReader
from core.views.checkpoints import Checkpoints
from core.views.project import fold_batch
from core.views.store import MAX_VIEWS_PER_COMMIT, ViewStore
from core.views.stored import Stored, unheard_of
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, Record
from pipai_contracts.upcast import NewerVersionError

_PAGE: Final = 200


class Refolder:
    """Makes views of one deployment again that are gone."""

    def __init__(self, redis: Redis, keys: Keys, store: ViewStore) -> None:
        self._keys = keys
        self._store = store
        self._checkpoints = Checkpoints(redis, keys)
        self._log = LogReader(redis, keys)

    async def refold(self, partition: int, generation: int, topics: Sequence[Topic]) -> int:
        """Fold the events up to the checkpoints into these views, which have none yet; returns how many events.

        What comes after the checkpoints comes to them as to every view. A view that somebody else writes meanwhile
        is theirs.

        Raises:
            redis.exceptions.RedisError: Redis did not answer; some views may be folded in part.
            GenerationChangedError: likewise.
        """
        loaded = {topic: unheard_of(topic) for topic in topics}
        count = 0
        page: list[Record] = []
        async for record in self._records(loaded):
            page.append(record)
            if len(page) == _PAGE:
                count += await self._commit(partition, generation, page, loaded)
                page = []
        return count + await self._commit(partition, generation, page, loaded)

    async def _commit(
        self, partition: int, generation: int, records: Sequence[Record], loaded: dict[Topic, Stored]
    ) -> int:
        updates = fold_batch(records, loaded, version=f"refold-{secrets.token_hex(8)}", only=loaded.keys()).updates
        source = self._keys.source("workflow:progress", partition)
        for start in range(0, len(updates), MAX_VIEWS_PER_COMMIT):
            chunk = updates[start : start + MAX_VIEWS_PER_COMMIT]
            outcome = await self._store.commit(partition, generation, chunk, source=source, since=BEGINNING)
            for update, written in zip(chunk, outcome, strict=True):
                if written:
                    loaded[update.topic] = update.after
                else:
                    del loaded[update.topic]
        return sum(len(update.entries) for update in updates)

    async def _records(self, topics: dict[Topic, Stored]) -> AsyncGenerator[Record]:
        """The events of these topics, from every source, in the order of their stream ids."""
        upto = {source: (await self._checkpoints.load(source)).stream_id for source in self._keys.sources()}
        async for source, entry, parked in self._log.read_together(upto):
            if parked:
                continue
            try:
                record = decode(source, entry)
            except (UndecodableEntryError, NewerVersionError):
                continue  # it was parked when it came, or projected by a newer build
            if any(topic in topics for topic in record.topics):
                yield record
