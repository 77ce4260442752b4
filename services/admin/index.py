"""Where in the log each topic's events are, and what the log has no longer."""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from core.log.dead import DeadLetters
from core.log.entry import Entry, decode
from core.log.errors import UndecodableEntryError
from core.log.keys import Keys, Source
from core.log.read import entries_of, read_entries
from core.views.checkpoints import Checkpoint, Checkpoints
from core.views.rebuild import Fresh, LogState, heard_sources
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, StreamId

_PAGE: Final = 200
"""Entries read at once: of the largest events that is 50 MB."""


class LogIndex:
    """The stream ids of each wanted topic's events, read page by page; the events themselves are read to be folded.

    So its memory goes with the number of events in the log, not with their size.
    """

    def __init__(self, redis: Redis, keys: Keys, wanted: Callable[[Topic], bool], *, feed_length: int) -> None:
        self._redis = redis
        self._keys = keys
        self._wanted = wanted
        self._feed_length = feed_length
        self._sources = {source.name: source for source in keys.sources()}
        self._scanned: dict[str, Checkpoint] = {name: Checkpoint(0, BEGINNING) for name in self._sources}
        self._whole_since: dict[str, StreamId] = {}
        self._newest: dict[str, StreamId] = {}
        self._events: dict[Topic, list[tuple[StreamId, str]]] = {}
        self._dead = DeadLetters(redis, keys)

    @property
    def topics(self) -> list[Topic]:
        """The wanted topics that the log has events of."""
        return list(self._events)

    async def read_up_to(self, reached: Mapping[str, StreamId]) -> None:
        """Read on, at least up to these positions.

        As far as a checkpoint is, every event is in its views or was parked: who is in no view is known by then.
        """
        behind = [name for name, at in reached.items() if name in self._scanned and at > self._scanned[name].stream_id]
        if not behind:
            return
        checkpoints = await self._load_checkpoints()
        for name in behind:
            target = max(checkpoints[name], Checkpoint(0, reached[name]), key=_at)
            await self._read_source(self._sources[name], target)

    async def read_projected(self) -> None:
        """Read on up to the checkpoints."""
        checkpoints = await self._load_checkpoints()
        await self.read_up_to({name: checkpoint.stream_id for name, checkpoint in checkpoints.items()})

    def log_states(self, topic: Topic) -> dict[str, LogState]:
        """What is known of the sources the topic may hear."""
        return {
            source.name: LogState(
                self._whole_since.get(source.name, BEGINNING), self._newest.get(source.name, BEGINNING)
            )
            for source in heard_sources(self._keys, topic)
        }

    async def fold(self, topic: Topic, reached: Mapping[str, StreamId]) -> Fresh:
        """The view of the topic, from its events up to ``reached`` per source.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        fresh = Fresh(topic, self._feed_length)
        events = sorted(
            (stream_id, name)
            for stream_id, name in self._events.get(topic, ())
            if stream_id <= reached.get(name, BEGINNING)
        )
        for start in range(0, len(events), _PAGE):
            page = events[start : start + _PAGE]
            async with self._redis.pipeline(transaction=False) as pipe:
                for stream_id, name in page:
                    pipe.xrange(self._sources[name].key, min=str(stream_id), max=str(stream_id))
                rows = cast("list[list[Any]]", await pipe.execute())
            for (_, name), row in zip(page, rows, strict=True):
                entries = entries_of(row)
                if not entries:
                    fresh.gone = True
                    return fresh
                fresh.take(decode(self._sources[name], entries[0]))
        return fresh

    async def _load_checkpoints(self) -> dict[str, Checkpoint]:
        """How far each source is in all views."""
        checkpoints = Checkpoints(self._redis, self._keys)
        return {name: await checkpoints.load(source) for name, source in self._sources.items()}

    async def _read_source(self, source: Source, target: Checkpoint) -> None:
        self._newest[source.name] = await self._newest_of(source)
        scanned = self._scanned[source.name]
        expected, after = scanned.offset + 1, scanned.stream_id
        while entries := await read_entries(self._redis, source, after=after, upto=target.stream_id, count=_PAGE):
            parked = await self._dead.parked_among(source, entries)
            for entry in entries:
                if entry.offset:
                    if entry.offset != expected:
                        self._whole_since[source.name] = entry.stream_id
                    expected = entry.offset + 1
                if entry.stream_id not in parked:
                    self._note(source, entry)
            after = entries[-1].stream_id
        if target.offset >= expected:  # what stood at the end is gone
            self._whole_since[source.name] = StreamId(target.stream_id.milliseconds, target.stream_id.sequence + 1)
            expected = target.offset + 1
        self._scanned[source.name] = Checkpoint(expected - 1, target.stream_id)

    def _note(self, source: Source, entry: Entry) -> None:
        try:
            topics = decode(source, entry).topics
        except UndecodableEntryError:
            return
        for topic in topics:
            if self._wanted(topic):
                self._events.setdefault(topic, []).append((entry.stream_id, source.name))

    async def _newest_of(self, source: Source) -> StreamId:
        """The newest stream id the stream ever gave out."""
        try:
            about = await self._redis.xinfo_stream(source.key)
        except ResponseError as error:
            if "no such key" in str(error):
                return BEGINNING
            raise
        return StreamId.parse(about["last-generated-id"])


def _at(checkpoint: Checkpoint) -> StreamId:
    return checkpoint.stream_id
