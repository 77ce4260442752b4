"""Making the source streams of another layout, under staged names: the same events in the same order."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.checkpoint import NOTHING, Checkpoint
from core.log.entry import Entry, decode
from core.log.errors import UndecodableEntryError
from core.log.keys import OUR_GROUPS, SOURCES, Keys, Source, partition_of
from core.log.reader import Continuity, Logged, LogReader, topics_named
from core.log.staging import staged
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, StreamId
from pipai_contracts.upcast import NewerVersionError
from services.admin.progress import Progress

_PAGE: Final = 50
"""Entries written at once: of the largest events that is 12 MB."""


@dataclass(slots=True)
class Ledger:
    """What moving the log found out, for those who move the rest.

    ``ids``: old source name and stream id → new stream id, where two partitions had used the same one.
    ``checkpoints``: new source name → its last event. ``users``: which new sources have events of a user.
    """

    ids: dict[tuple[str, StreamId], StreamId] = field(default_factory=dict[tuple[str, StreamId], StreamId])
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict[str, Checkpoint])
    users: dict[Topic, set[str]] = field(default_factory=dict[Topic, set[str]])
    foreign_groups: list[str] = field(default_factory=list[str])
    events: int = 0


@dataclass(slots=True)
class _Stream:
    """A new source stream while it is being written. ``jump``: something is missing before its next entry."""

    source: Source
    offset: int = 0
    newest: StreamId = BEGINNING
    archived: Checkpoint = NOTHING
    jump: bool = False
    page: list[tuple[StreamId, dict[bytes, bytes]]] = field(default_factory=list[tuple[StreamId, dict[bytes, bytes]]])
    parked: list[StreamId] = field(default_factory=list[StreamId])


class LogMover:
    """Copies the source streams of ``old`` to staged ones of ``new``."""

    def __init__(self, redis: Redis, old: Keys, new: Keys, progress: Progress) -> None:
        self._redis = redis
        self._old = old
        self._new = new
        self._progress = progress
        self._log = LogReader(redis, old)
        self._newest_dealt = BEGINNING
        self._archived: StreamId | None = None
        self.ledger = Ledger()

    async def copy(self) -> None:
        """Copy all four."""
        for name in SOURCES:
            await self._copy_stream(name)

    async def _copy_stream(self, name: str) -> None:
        """Merge the partitions of one stream in the order of the stream ids, and deal the entries out anew.

        Offsets count anew from 1. Where the old partitions lacked events the new ones skip an offset, so that nobody
        takes the new stream for whole.
        """
        olds = [self._old.source(name, partition) for partition in range(self._old.partitions)]
        streams = [_Stream(self._new.source(name, partition)) for partition in range(self._new.partitions)]
        continuity = {source: Continuity() for source in olds}
        archived = await self._archived_offsets(olds)
        all_archived = True
        self._newest_dealt = BEGINNING
        self._archived = await self._archived_of(olds)
        async for logged in self._log.read_together(dict.fromkeys(olds)):
            if not continuity[logged.source].follows(logged.entry):
                _note_hole(streams)
                all_archived &= logged.entry.offset - 1 <= archived[logged.source]
            await self._deal(logged, streams)
            self._progress.step()
        newest = BEGINNING
        for source in olds:
            last = int(cast("bytes | None", await self._redis.get(source.offset)) or 0)
            if last > continuity[source].offset:
                _note_hole(streams)
                all_archived &= last <= archived[source]
            newest = max(newest, await self._log.newest(source))
            await self._note_groups(source)
        for stream in streams:
            await self._finish(stream, newest)
            if self._archived is not None:
                await self._hand_over_archived(stream, all_archived=all_archived)

    async def _hand_over_archived(self, stream: _Stream, *, all_archived: bool) -> None:
        """Have the new source archived from where the old ones were; ``all_archived``: what they lack is archived."""
        reached = stream.archived
        if all_archived:
            await self._redis.set(staged(stream.source.moved), stream.offset)
            if reached.stream_id == stream.newest:
                reached = self.ledger.checkpoints.get(stream.source.name, reached)
        await self._redis.set(staged(stream.source.archived), str(reached))

    async def _archived_offsets(self, olds: Sequence[Source]) -> dict[Source, int]:
        """Up to which offset each is archived."""
        known = await ArchiveCheckpoints(self._redis).load(olds)
        return {source: checkpoint.offset if checkpoint else 0 for source, checkpoint in known.items()}

    async def _archived_of(self, olds: Sequence[Source]) -> StreamId | None:
        """Up to where all of these are archived; None when none of them is.

        What one of them has beyond is archived once more: readers know an event by stream, id and topic.
        """
        known = (await ArchiveCheckpoints(self._redis).load(olds)).values()
        reached = [NOTHING if checkpoint is None else checkpoint for checkpoint in known]
        return min(checkpoint.stream_id for checkpoint in reached) if any(known) else None

    async def _deal(self, logged: Logged, streams: list[_Stream]) -> None:
        source, entry, parked = logged
        topics = _topics(source, entry)
        partition = partition_of(topics[0], self._new.partitions) if topics else source.partition % len(streams)
        stream = streams[partition]
        # Above all that were dealt, to whichever stream: an event that makes way in its own stream would else pass one
        # of another, and a user's list, which is in the order of the ids, would show the two the other way round.
        new_id = max(entry.stream_id, StreamId(self._newest_dealt.milliseconds, self._newest_dealt.sequence + 1))
        if new_id != entry.stream_id:
            self.ledger.ids[source.name, entry.stream_id] = new_id
        fields = dict(entry.fields)
        if entry.offset:
            stream.offset += 2 if stream.jump else 1
            stream.jump = False
            fields[b"offset"] = str(stream.offset).encode()
        self._newest_dealt = stream.newest = new_id
        if self._archived is not None and entry.stream_id <= self._archived:
            stream.archived = Checkpoint(stream.offset, new_id)
        stream.page.append((new_id, fields))
        if parked:
            stream.parked.append(new_id)
        for user in topics:
            if user.kind == "user":
                self.ledger.users.setdefault(user, set()).add(stream.source.name)
        if len(stream.page) >= _PAGE:
            await self._write(stream)
        self.ledger.events += 1

    async def _write(self, stream: _Stream) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for stream_id, fields in stream.page:
                pipe.xadd(staged(stream.source.key), cast("dict[Any, Any]", fields), id=str(stream_id))
            for stream_id in stream.parked:
                pipe.zadd(staged(self._new.parked(stream.source)), {str(stream_id): stream_id.milliseconds})
            await pipe.execute()
        stream.page.clear()
        stream.parked.clear()

    async def _finish(self, stream: _Stream, newest: StreamId) -> None:
        """Write the rest, the counter, and make sure that no later event gets an id that was used before."""
        if stream.page:
            await self._write(stream)
        key = staged(stream.source.key)
        if newest > stream.newest:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.xadd(key, {"used": "before"}, id=str(newest))
                pipe.xdel(key, str(newest))
                await pipe.execute()
        if stream.jump:
            stream.offset += 1
        if stream.offset:
            await self._redis.set(staged(stream.source.offset), stream.offset)
        reached = stream.newest if stream.newest > BEGINNING else newest
        if reached > BEGINNING:
            self.ledger.checkpoints[stream.source.name] = Checkpoint(stream.offset, reached)

    async def _note_groups(self, source: Source) -> None:
        """Note the consumer groups of others: they are not moved."""
        try:
            groups = await self._redis.xinfo_groups(source.key)
        except ResponseError as error:
            if "no such key" in str(error):
                return
            raise
        others = [group["name"].decode() for group in groups if group["name"] not in OUR_GROUPS]
        self.ledger.foreign_groups += [f"{group} of {source.key}" for group in others]


def _note_hole(streams: list[_Stream]) -> None:
    for stream in streams:
        stream.jump = True


def _topics(source: Source, entry: Entry) -> list[Topic]:
    """The entry's own topic, then its owner's; none for what was never an event."""
    try:
        return list(decode(source, entry).topics)
    except (UndecodableEntryError, NewerVersionError):
        return topics_named(entry)
