"""Removing from the log what a tombstone hides: entries, dead letters, and who owned what."""

from collections.abc import AsyncGenerator
from typing import Any, Final, NamedTuple, cast

from redis.asyncio import Redis

from core.log.entry import Entry
from core.log.keys import Keys, Source, partition_of
from core.log.letters import original_of
from core.log.read import read_entries
from core.log.scan import keys_between
from core.log.tombstones import Hidden, Tombstone
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, StreamId

_PAGE: Final = 500


class Removed(NamedTuple):
    """How many entries and dead letters there were."""

    events: int
    letters: int


class LogRemover:
    """Removes entries of one deployment's log. Its methods raise `redis.exceptions.RedisError`; again is safe."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def owned(self, tenant: str, user_id: str) -> dict[str, int]:
        """The topics that the log has entries of which are the user's, with how many; the user's own among them.

        What another hand wrote may have a topic that is none.
        """
        found: dict[str, int] = {}
        own = Hidden([Tombstone(tenant, user_id, 2**53, frozenset())])
        for source in self._keys.sources():
            async for entry in self._entries(source):
                if own.hides_entry(entry) and (name := _topic_name(entry)):
                    found[name] = found.get(name, 0) + 1
        return found

    async def other_owners(self, tombstone: Tombstone) -> set[str]:
        """Who else owns events of its topics in the log."""
        found = set[str]()
        of_topics = Hidden([tombstone._replace(user_id="", until=2**53)])
        for source in self._keys.sources():
            async for entry in self._entries(source):
                if of_topics.hides_entry(entry):
                    found.add(entry.fields.get(b"user", b"").decode(errors="replace"))
        return found - {"", tombstone.user_id}

    async def is_behind(self, source: Source, reached: StreamId, until: int) -> bool:
        """Whether there are entries of that time (milliseconds) beyond ``reached``."""
        upto = StreamId(until + 1, 0)
        return reached < upto and bool(await read_entries(self._redis, source, after=reached, upto=upto, count=1))

    async def later_topics(self, tombstone: Tombstone) -> set[Topic]:
        """The topics of a tombstone, the user's own among them, that have later events in the log."""
        ever, gone = Hidden([tombstone._replace(until=2**53)]), Hidden([tombstone])
        names = set[str]()
        for source in self._keys.sources():
            async for entry in self._entries(source):
                if ever.hides_entry(entry) and not gone.hides_entry(entry):
                    names.add(_topic_name(entry))
        return tombstone._replace(topics=frozenset(names)).hidden_topics if names else set()

    async def remove(self, tombstone: Tombstone) -> Removed:
        """Remove what it hides."""
        hidden = Hidden([tombstone])
        events = letters = 0
        for source in self._keys.sources():
            gone = [entry.stream_id async for entry in self._entries(source) if hidden.hides_entry(entry)]
            events += await self._delete(source.key, gone)
            letters += await self._remove_letters(source, hidden)
        await self._remove_notes(tombstone)
        return Removed(events, letters)

    async def _entries(self, source: Source) -> AsyncGenerator[Entry]:
        after = BEGINNING
        while page := await read_entries(self._redis, source, after=after, count=_PAGE):
            for entry in page:
                yield entry
            after = page[-1].stream_id

    async def _remove_letters(self, source: Source, hidden: Hidden) -> int:
        key, after = self._keys.dead(source), "-"
        gone: list[StreamId] = []
        while page := cast("list[Any]", await self._redis.xrange(key, min=after, count=_PAGE)):
            for letter_id, raw in page:
                stood = StreamId.parse(raw.get(b"stream_id", letter_id))
                if hidden.hides_entry(Entry(stood, original_of(raw))):
                    gone.append(StreamId.parse(letter_id))
            after = f"({page[-1][0].decode()}"
        return await self._delete(key, gone)

    async def _delete(self, key: str, gone: list[StreamId]) -> int:
        count = 0
        for start in range(0, len(gone), _PAGE):
            count += await self._redis.xdel(key, *map(str, gone[start : start + _PAGE]))
        return count

    async def _remove_notes(self, tombstone: Tombstone) -> None:
        """Forget whose the topics were, and that their events were appended.

        The latter takes a look at every key of the Redis.
        """
        topics = tombstone.hidden_topics
        sources = {source.companion: source for source in self._keys.sources()}
        for topic in topics:
            for source in sources.values():
                if source.partition == partition_of(topic, self._keys.partitions):
                    await self._redis.unlink(source.owner(topic))
        for start in self._keys.starts:
            async for key in keys_between(self._redis, start, ":seen:"):
                source = sources.get(key.partition(":seen:")[0])
                note = None if source is None else source.note_of(key)
                if note is not None and note[0] in topics:
                    await self._redis.unlink(key)


def _topic_name(entry: Entry) -> str:
    """The name of the entry's topic; empty where it has none."""
    return entry.fields.get(b"topic", b"").decode(errors="replace")
