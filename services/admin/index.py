"""Where in the log each topic's events are, and what the log has no longer."""

from collections.abc import Callable, Mapping
from typing import Final

from redis.asyncio import Redis

from core.log.checkpoint import Checkpoint
from core.log.entry import Entry, decode
from core.log.errors import UndecodableEntryError
from core.log.keys import Keys, Source
from core.log.replay import Continuity, LogReader, topics_named
from core.views.checkpoints import Checkpoints
from core.views.rebuild import Fresh, LogState, heard_sources
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, StreamId
from pipai_contracts.upcast import NewerVersionError
from services.admin.progress import Progress

_PAGE: Final = 200
"""Events folded at once: of the largest that is 50 MB."""


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
        self._unread: set[Topic] = set()
        self._progress = Progress("entries of the log read")
        self._log = LogReader(redis, keys)

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
        if topic in self._unread:
            fresh.lacks = "events of it were written and projected by a newer build than this one"
            return fresh
        events = sorted(
            (stream_id, name)
            for stream_id, name in self._events.get(topic, ())
            if stream_id <= reached.get(name, BEGINNING)
        )
        for start in range(0, len(events), _PAGE):
            page = events[start : start + _PAGE]
            entries = await self._log.find([(self._sources[name], stream_id) for stream_id, name in page])
            for (_, name), entry in zip(page, entries, strict=True):
                if entry is None:
                    fresh.lacks = "events of it were trimmed meanwhile"
                    return fresh
                fresh.take(decode(self._sources[name], entry))
        return fresh

    async def _load_checkpoints(self) -> dict[str, Checkpoint]:
        """How far each source is in all views."""
        checkpoints = Checkpoints(self._redis, self._keys)
        return {name: await checkpoints.load(source) for name, source in self._sources.items()}

    async def _read_source(self, source: Source, target: Checkpoint) -> None:
        self._newest[source.name] = await self._log.newest(source)
        scanned = self._scanned[source.name]
        continuity = Continuity(scanned.offset)
        async for _, entry, parked in self._log.read(source, after=scanned.stream_id, upto=target.stream_id):
            if not continuity.follows(entry):
                self._whole_since[source.name] = entry.stream_id
            if not parked:
                self._note(source, entry)
            self._progress.step()
        if target.offset > continuity.offset:  # what stood at the end is gone
            self._whole_since[source.name] = target.stream_id.next
        self._scanned[source.name] = Checkpoint(max(target.offset, continuity.offset), target.stream_id)

    def _note(self, source: Source, entry: Entry) -> None:
        try:
            topics = decode(source, entry).topics
        except UndecodableEntryError:
            return
        except NewerVersionError:
            self._unread.update(topics_named(entry))
            return
        for topic in topics:
            if self._wanted(topic):
                self._events.setdefault(topic, []).append((entry.stream_id, source.name))


def _at(checkpoint: Checkpoint) -> StreamId:
    return checkpoint.stream_id
