"""What is kept of the time before there was an archive: its live views, when it is first switched on."""

from collections.abc import AsyncGenerator, Sequence
from typing import Final

from redis.asyncio import Redis

from core.log.archive.bases import Base, Bases
from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.checkpoint import Checkpoint
from core.log.keys import Keys, Source
from core.log.reader import LogReader
from core.log.scan import viewed_topics
from core.runtime.logs import get_logger
from core.views.folds import encode_state
from core.views.rebuild import encode_latest, first_event
from core.views.store import ViewStore
from core.views.stored import FeedEntry, Stored
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING

UNTIL: Final = 1
"""The moment (milliseconds) of a set made of live views: all events are after it, and each view says what it heard."""

_PAGE: Final = 500
_IN_A_PART: Final = 20_000

log = get_logger()


class Beginning:
    """Has a source archived from its oldest entry on; before the first, keeps the live views as bases.

    Nothing is trimmed that is not archived from then on, so what a view has not heard of yet is in the log.
    """

    def __init__(self, redis: Redis, keys: Keys, bases: Bases, store: ViewStore) -> None:
        self._redis = redis
        self._keys = keys
        self._sources = keys.sources()
        self._archived = ArchiveCheckpoints(redis)
        self._log = LogReader(redis, keys)
        self._bases = bases
        self._store = store
        self._kept = 0

    async def begin(self) -> dict[Source, Checkpoint]:
        """Begin where there is no archive yet, and say how far each source is.

        After a crash it is begun anew, as long as nothing was archived.

        Raises:
            StoreAwayError, SegmentFileError, redis.exceptions.RedisError: it could not be done.
        """
        begun = {source: await self._archived.begin(source) for source in self._sources}
        if not any(checkpoint.offset for checkpoint in begun.values()) and await self._lacks_its_beginning():
            await self._bases.write(UNTIL, self._parts())
            log.info("live views kept as the beginning of the archive: older events are gone", views=self._kept)
        return begun

    async def _lacks_its_beginning(self) -> bool:
        if max([await self._log.whole_since(source) for source in self._sources]) == BEGINNING:
            return False
        return await self._bases.newest() is None

    async def _parts(self) -> AsyncGenerator[Sequence[Base]]:
        topics = set[Topic]()
        self._kept = 0
        part: list[Base] = []
        async for topic in viewed_topics(self._redis, self._keys):
            topics.add(topic)
            if len(topics) == _PAGE:
                part += await self._load(list(topics))
                topics.clear()
            if len(part) >= _IN_A_PART:
                self._kept += len(part)
                yield part
                part = []
        part += await self._load(list(topics))
        self._kept += len(part)
        yield part

    async def _load(self, topics: Sequence[Topic]) -> list[Base]:
        loaded = await self._store.load(topics)
        return [await self._base(topic, stored) for topic, stored in loaded.items() if stored.version]

    async def _base(self, topic: Topic, stored: Stored) -> Base:
        items = await self._store.read_feed(topic, after=stored.pos - 1, upto=stored.pos, count=1)
        latest = encode_latest(next((FeedEntry(one.event, one.data, str(one.stream_id)) for one in items), None))
        first, state = first_event(stored.first), encode_state(stored.state)
        return Base(topic, stored.pos, first, UNTIL, stored.heard, self._keys.partitions, state, latest)
