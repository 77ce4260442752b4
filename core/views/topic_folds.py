"""Views folded from all of the history, many at once, and folded on as far as live views have come meanwhile."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple

from redis.asyncio import Redis

from core.log.archive.archive import Archive
from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.archive.rows import Row, decode_row, entry_of
from core.log.archive.segment import stream_of
from core.log.archive.store import StoreAwayError
from core.log.archive.wanted import Place, Wanted
from core.log.checkpoint import NOTHING, Checkpoint
from core.log.entry import Entry, decode
from core.log.errors import UndecodableEntryError
from core.log.history import History
from core.log.keys import SOURCES, Keys, Source, partition_of
from core.log.merge import merge_pages
from core.log.reader import Continuity, LogReader, topics_named
from core.log.tombstones import NOBODY
from core.views.checkpoints import Checkpoints
from core.views.erased import left_of
from core.views.rebuild import Fresh, LogState, heard_sources
from core.views.stored import FeedEntry
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, Record, StreamId
from pipai_contracts.upcast import NewerVersionError

_PAGE: Final = 200
"""Events of the log in memory at once, of all sources: of the largest that is 50 MB."""

_SMALLEST_PAGE: Final = 10

_KNOWN_TOPICS: Final = 100_000


class _Placed(NamedTuple):
    """An event as it was found: in the log, or in the archive."""

    place: Place
    source: Source
    found: Entry | Row


class TopicFolds:
    """The views of the wanted topics, each folded from its events in the archive and the log.

    All of them are in memory. `read_projected` folds what every view has by then; of what comes later only the stream
    ids are kept, until `fold` folds a view on. Without an archive the history is what the log still has.

    ``streams`` and ``only``: the source streams that may have the wanted topics' events, and what these have in common.
    ``progress`` is told how many events were read.
    """

    def __init__(  # noqa: PLR0913 - one for each thing that bounds what is read
        self,
        redis: Redis,
        keys: Keys,
        archive: Archive | None,
        wanted: Callable[[Topic], bool],
        *,
        feed_length: int,
        progress: Callable[[int], object] = lambda _: None,
        streams: Collection[str] = SOURCES,
        only: Wanted | None = None,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._archive = archive
        self._wanted = wanted
        self._concerns = lru_cache(_KNOWN_TOPICS)(self._find_source)
        self._feed_length = feed_length
        self._streams = streams
        self._only = only
        self._sources = {source.name: source for source in keys.sources()}
        self._page = max(_SMALLEST_PAGE, _PAGE // len(self._sources))
        self._scanned: dict[str, Checkpoint] = dict.fromkeys(self._sources, NOTHING)
        self._whole_since: dict[str, StreamId] = {}
        self._newest: dict[str, StreamId] = {}
        self._folds: dict[Topic, Fresh] = {}
        self._later: dict[Topic, list[tuple[StreamId, str]]] = {}
        self._moved: dict[str, int] = {}
        self._until = 0
        self._hidden = NOBODY
        self._unread: set[Topic] = set()
        self._progress = progress
        self._reading = asyncio.Lock()
        self._checkpoints = Checkpoints(redis, keys)
        self._log = LogReader(redis, keys)
        self._history = History(self._log, keys, archive)

    @property
    def topics(self) -> list[Topic]:
        """The wanted topics that the history has events of."""
        return list({**self._folds, **self._later})

    async def read_projected(self) -> None:
        """Fold everything up to the checkpoints.

        As far as a checkpoint is, every event is in its views or was parked: who is in no view is known by then.

        Raises:
            redis.exceptions.RedisError, StoreAwayError, SegmentFileError: Redis or the archive did not answer.
        """
        checkpoints = await self._load_checkpoints()
        readers: list[AsyncIterator[list[_Placed]]] = []
        if self._archive is not None:
            await self._begin_at_bases(self._archive)
            bounds = await self._begin_behind(self._archive, checkpoints)
            readers += [self._archived(self._archive, stream, bounds) for stream in self._streams]
        readers += [self._logged(source, checkpoints[name]) for name, source in self._sources.items()]
        last: Place | None = None
        async for page in merge_pages(readers, _place):
            for place, source, found in page:
                if place != last:  # else it is in the archive and in the log
                    self._fold(source, found)
                last = place
            self._progress(len(page))
        if self._archive is not None and (await self._archive.bases.newest() or 0) != self._until:
            raise StoreAwayError("the beginning of the archive was given up meanwhile: begin anew")

    async def read_given_up(self, archive: Archive, until: int) -> Mapping[Topic, Fresh]:
        """Fold what the archive has of the days before ``until`` (milliseconds), on top of bases; returns the views.

        Raises:
            StoreAwayError, SegmentFileError: the archive did not answer.
        """
        await self._begin_at_bases(archive)
        for stream in self._streams:
            async for rows in archive.read_stream(stream, until=until):
                for row in rows:
                    source = self._concerns(row.stream, row.tenant, row.topic, row.user_id)
                    if source is not None and not row.parked and not self._is_gone(row):
                        self._fold(source, row)
                self._progress(len(rows))
        return self._folds

    async def read_up_to(self, reached: Mapping[str, StreamId]) -> None:
        """Note what comes later, at least up to these positions; who asks meanwhile waits."""
        async with self._reading:
            await self._read_up_to(reached)

    async def _read_up_to(self, reached: Mapping[str, StreamId]) -> None:
        behind = [name for name, at in reached.items() if name in self._scanned and at > self._scanned[name].stream_id]
        if not behind:
            return
        checkpoints = await self._checkpoints.load_all([self._sources[name] for name in behind])
        for name in behind:
            target = max(checkpoints[self._sources[name]].lowest, Checkpoint(0, reached[name]), key=_at)
            async for page in self._logged(self._sources[name], target):
                for place, source, found in page:
                    self._note(source, found, place.stream_id)

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
        fresh = self._fold_of(topic)
        if topic in self._unread:
            fresh.lacks = "events of it were written and projected by a newer build than this one"
        elif any(at > reached.get(name, BEGINNING) for name, at in fresh.heard.items()):
            fresh.lacks = "its view has not heard of events that all views had heard of"
        else:
            await self._fold_on(fresh, reached)
        return fresh

    async def _fold_on(self, fresh: Fresh, reached: Mapping[str, StreamId]) -> None:
        later = sorted(self._later.get(fresh.topic, ()))
        due = [(stream_id, name) for stream_id, name in later if stream_id <= reached.get(name, BEGINNING)]
        for start in range(0, len(due), _PAGE):
            page = due[start : start + _PAGE]
            entries = await self._log.find([(self._sources[name], stream_id) for stream_id, name in page])
            if None in entries:
                entries = await self._find_archived(fresh.topic, page)
            for (_, name), entry in zip(page, entries, strict=True):
                if entry is None:
                    fresh.lacks = "events of it were trimmed meanwhile"
                    return
                fresh.take(decode(self._sources[name], entry))
        if due:
            done = set(due)
            self._later[fresh.topic] = [one for one in later if one not in done]

    async def _find_archived(self, topic: Topic, places: Sequence[tuple[StreamId, str]]) -> list[Entry | None]:
        """These events of the topic, which were trimmed meanwhile; None for what is gone."""
        first, last = (place[0].milliseconds for place in (places[0], places[-1]))
        wanted = replace(Wanted.of(topic), since=first, until=last + 1)
        found: dict[tuple[StreamId, str], Entry] = {}
        after: Place | None = None
        while rows := await self._history.find(wanted, after=after, limit=_PAGE):
            for row in rows:
                source = self._concerns(row.stream, row.tenant, row.topic, row.user_id)
                if source is not None:
                    found[row.stream_id, source.name] = entry_of(row)
            after = rows[-1].place
        return [found.get(place) for place in places]

    async def _load_checkpoints(self) -> dict[str, Checkpoint]:
        """How far each source is in all views."""
        copies = await self._checkpoints.load_all(list(self._sources.values()))
        return {source.name: found.lowest for source, found in copies.items()}

    async def _begin_at_bases(self, archive: Archive) -> None:
        """Have views whose beginning was given up begin with what they were then."""
        self._hidden = await self._log.tombstones.hidden(fresh=True)
        self._until = await archive.bases.newest() or 0
        async for page in archive.bases.read(self._until):
            for base in page:
                left = left_of(base, self._hidden) if self._wanted(base.topic) else None
                if left is not None:
                    self._folds[base.topic] = Fresh.on(left, self._feed_length, self._keys.partitions)

    async def _begin_behind(self, archive: Archive, checkpoints: Mapping[str, Checkpoint]) -> dict[str, StreamId]:
        """Have the log read from where the archive ends by now; returns up to where each source is to be folded.

        What is archived and trimmed meanwhile is read where the log has a hole.
        """
        bounds = {name: checkpoint.stream_id for name, checkpoint in checkpoints.items()}
        archived = ArchiveCheckpoints(self._redis)
        moved = await archived.moved(list(self._sources.values()))
        self._moved = {source.name: offset for source, offset in moved.items()}
        for source, checkpoint in (await archived.load(list(self._sources.values()))).items():
            if checkpoint is not None and checkpoint.stream_id.milliseconds < self._until:
                self._scanned[source.name] = checkpoint  # all that was archived of it was given up
        for name, whole in (await archive.whole_since(self._moved)).items():
            if name in self._sources:
                self._scanned[name] = whole.upto
                concerned = [self._sources[name]]
            else:  # any partition may have the topics now that one had which there is no more
                concerned = [source for source in self._sources.values() if source.stream == stream_of(name)]
            for source in concerned:
                bounds[source.name] = max(whole.upto.stream_id, bounds[source.name])
                if not whole.explained(self._until):
                    known = self._whole_since.get(source.name, BEGINNING)
                    self._whole_since[source.name] = max(whole.since, known)
        return bounds

    async def _archived(
        self, archive: Archive, stream: str, bounds: Mapping[str, StreamId]
    ) -> AsyncGenerator[list[_Placed]]:
        """The entries of a source stream in the archive that concern a wanted topic, up to these bounds."""
        async for rows in archive.read_stream(stream, self._only):
            page: list[_Placed] = []
            for row in rows:
                source = self._concerns(row.stream, row.tenant, row.topic, row.user_id)
                if source is None or row.parked or self._is_gone(row):
                    continue
                place = row.place
                if place.stream_id <= bounds[source.name]:
                    page.append(_Placed(place, source, row))
            if page:
                yield page

    def _is_gone(self, row: Row) -> bool:
        """Whether it was erased, or given up: its file may be there for some minutes yet."""
        return row.stream_ms < self._until or self._hidden.hides(row.tenant, row.topic, row.user_id, row.stream_ms)

    def _find_source(self, stream: str, tenant: str | None, topic: str | None, user_id: str | None) -> Source | None:
        """Where events of this topic and owner are appended; None when they concern no wanted topic."""
        try:
            own = Topic.parse(f"{tenant}:{topic}")
        except ValueError:
            return None
        if not self._wanted(own) and (user_id is None or not self._wanted(Topic(own.tenant, "user", user_id))):
            return None
        return self._keys.source(stream, partition_of(own, self._keys.partitions))

    async def _logged(self, source: Source, target: Checkpoint) -> AsyncGenerator[list[_Placed]]:
        """The entries of a source from where it was read up to, up to ``target``."""
        self._newest[source.name] = await self._log.newest(source)
        scanned = self._scanned[source.name]
        moved = self._moved.get(source.name, 0)
        continuity = Continuity(scanned.offset, moved)
        page: list[_Placed] = []
        async for _, entry, parked in self._history.read(source, after=scanned.stream_id, upto=target.stream_id):
            if not continuity.follows(entry):
                self._whole_since[source.name] = entry.stream_id
            if not parked:
                topic = entry.fields.get(b"topic", b"").decode(errors="replace")
                page.append(_Placed(Place(entry.stream_id, source.stream, topic), source, entry))
            if len(page) == self._page:
                yield page
                page = []
        if page:
            yield page
        if target.offset > max(continuity.offset, moved):  # what stood at the end is gone
            self._whole_since[source.name] = target.stream_id.next
        reached = max(target.stream_id, scanned.stream_id)
        self._scanned[source.name] = Checkpoint(max(target.offset, continuity.offset), reached)

    def _fold(self, source: Source, found: Entry | Row) -> None:
        record = self._decode(source, found)
        if record is not None:
            made: dict[bool, FeedEntry] = {}
            for topic in record.topics:
                fresh = self._folds.get(topic)
                if fresh is None and self._wanted(topic):
                    fresh = self._fold_of(topic)
                if fresh is not None:
                    fresh.take(record, made)

    def _note(self, source: Source, found: Entry | Row, stream_id: StreamId) -> None:
        record = self._decode(source, found)
        for topic in record.topics if record is not None else ():
            if self._wanted(topic):
                self._later.setdefault(topic, []).append((stream_id, source.name))

    def _decode(self, source: Source, found: Entry | Row) -> Record | None:
        """The event; None for one that no view has heard of, or that this build cannot read."""
        try:
            return decode_row(source, found) if isinstance(found, Row) else decode(source, found)
        except UndecodableEntryError:
            return None
        except NewerVersionError:
            entry = entry_of(found) if isinstance(found, Row) else found
            self._unread.update(topic for topic in topics_named(entry) if self._wanted(topic))
            return None

    def _fold_of(self, topic: Topic) -> Fresh:
        fresh = self._folds.get(topic)
        if fresh is None:
            fresh = self._folds[topic] = Fresh(topic, self._feed_length)
        return fresh


def _at(checkpoint: Checkpoint) -> StreamId:
    return checkpoint.stream_id


def _place(placed: _Placed) -> Place:
    return placed.place
