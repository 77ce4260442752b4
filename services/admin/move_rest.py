"""Making what goes with the log and the views of another layout, under staged names, each key by itself."""

from typing import Any, Final, NamedTuple, cast

from pydantic_core import from_json, to_json
from redis.asyncio import Redis

from core.log.keys import SOURCES, Keys, Source, partition_of
from core.log.letters import original_of
from core.log.scan import keys_beginning
from core.log.staging import staged
from core.views.folds import decode_state, encode_state
from core.views.rebuild import heard_sources
from core.views.spread import spread
from core.views.user import UserState
from pipai_contracts.events import EventType
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, StreamId
from pipai_contracts.upcast import MODELS
from services.admin.foreign import ForeignKeys
from services.admin.move_log import Ledger
from services.admin.progress import Progress

_PAGE: Final = 100

_FIELDS: Final = ("version", "pos", "first", "heard", "state")
"""What a view is stored as."""


class _Remembered(NamedTuple):
    """A string beside a source stream, and what it is to be called beside its ``twin``.

    ``is_place``: it says where an event stands; else who owns a topic.
    """

    key: str
    source: Source
    twin: Source
    new_key: str
    is_place: bool


class RestMover:
    """Copies owners, ids of repeated events, dead letters, views and feeds of ``old`` to staged ones of ``new``."""

    def __init__(self, redis: Redis, old: Keys, new: Keys, ledger: Ledger, progress: Progress) -> None:
        self._redis = redis
        self._old = old
        self._new = new
        self._ledger = ledger
        self._progress = progress
        self._remembered: list[_Remembered] = []
        self.views = 0
        self.letters = 0
        self.unreadable: list[Topic] = []
        self._foreign = ForeignKeys()

    async def copy(self) -> None:
        """Copy everything but the log itself; that was copied before, and ``ledger`` tells of it."""
        for source in self._old.sources():
            await self._copy_letters(source)
        beginnings = {f"{source.companion}:": source for source in self._old.sources()}
        for start in self._old.starts:
            async for key in keys_beginning(self._redis, start, foreign=self._foreign.note):
                await self._copy_key(key, beginnings)
        await self._copy_remembered()
        await self._write_checkpoints()

    async def _copy_key(self, key: str, beginnings: dict[str, Source]) -> None:
        if key.startswith(self._old.views):
            topic = self._old.topic_of(key)
            if topic is None:
                self._foreign.note(key.encode())
            else:
                await self._copy_view(topic)
                self._progress.step()
            return
        start = next((start for start in beginnings if key.startswith(start)), None)
        if start is None:
            return
        remembered = self._remembered_by(key, beginnings[start])
        if remembered is not None:
            self._remembered.append(remembered)
            if len(self._remembered) == _PAGE:
                await self._copy_remembered()

    def _remembered_by(self, key: str, source: Source) -> _Remembered | None:
        """What the key beside a source stream is to become; None for what is not moved."""
        note = source.note_of(key)
        if note is None:
            return None
        topic, event_id = note
        twin = self._twin(source, topic)
        new_key = twin.owner(topic) if event_id is None else twin.seen(topic, event_id)
        return _Remembered(key, source, twin, new_key, is_place=event_id is not None)

    async def _copy_remembered(self) -> None:
        """Copy a page of owners and of where events stand: what a repeated event is answered with."""
        page, self._remembered = self._remembered, []
        async with self._redis.pipeline(transaction=False) as pipe:
            for one in page:
                pipe.get(one.key)
                pipe.pttl(one.key)
            told = await pipe.execute()
        found = list(zip(page, told[::2], told[1::2], strict=True))
        alive = [(one, value, milliseconds) for one, value, milliseconds in found if value is not None]
        values = await self._where_now([(one, value) for one, value, _ in alive])
        async with self._redis.pipeline(transaction=False) as pipe:
            for (one, _, milliseconds), value in zip(alive, values, strict=True):
                pipe.set(staged(one.new_key), value, px=milliseconds if milliseconds > 0 else None)
            await pipe.execute()

    async def _where_now(self, page: list[tuple[_Remembered, bytes]]) -> list[bytes]:
        """The values as they are in the new layout: an owner stays, an event has another offset and perhaps id."""
        ids = [
            self._moved(one.source.name, StreamId.parse(value.split(b" ")[0])) if one.is_place else BEGINNING
            for one, value in page
        ]
        async with self._redis.pipeline(transaction=False) as pipe:
            for (one, _), stream_id in zip(page, ids, strict=True):
                pipe.xrange(staged(one.twin.key), min=str(stream_id), max=str(stream_id))
            rows = cast("list[list[Any]]", await pipe.execute())
        values: list[bytes] = []
        for (one, value), stream_id, row in zip(page, ids, rows, strict=True):
            if one.is_place:
                _, offset, *call = value.split(b" ")
                values.append(b" ".join([str(stream_id).encode(), _offset(row, offset), *call]))
            else:
                values.append(value)
        return values

    async def _copy_letters(self, source: Source) -> None:
        after = BEGINNING
        while True:
            reply = await self._redis.xrange(self._old.dead(source), min=f"({after}", count=_PAGE)
            letters = cast("list[tuple[bytes, dict[bytes, bytes]]]", reply)
            if not letters:
                return
            for letter_id, fields in letters:
                await self._copy_letter(source, StreamId.parse(letter_id), fields)
            after = StreamId.parse(letters[-1][0])

    async def _copy_letter(self, source: Source, letter_id: StreamId, fields: dict[bytes, bytes]) -> None:
        """The letter under its own id, or the next one where another partition's letter has that."""
        stream_id = StreamId.parse(fields.get(b"stream_id", str(letter_id).encode()))
        try:
            event = original_of(fields)
            path = f"{event[b'tenant'].decode()}:{event[b'topic'].decode()}"
            twin = self._twin(source, Topic.parse(path))
        except (KeyError, ValueError):
            twin = self._new.source(_stream_of(source.name), source.partition % self._new.partitions)
        key = staged(self._new.dead(twin))
        newest = cast("list[Any]", await self._redis.xrevrange(key, count=1))
        last = StreamId.parse(newest[0][0]) if newest else BEGINNING
        new_id = max(letter_id, StreamId(last.milliseconds, last.sequence + 1))
        moved: dict[Any, Any] = {**fields, b"stream_id": str(self._moved(source.name, stream_id))}
        await self._redis.xadd(key, moved, id=str(new_id))
        self.letters += 1

    async def _copy_view(self, topic: Topic) -> None:
        old = self._old.view(topic)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(old, _FIELDS)
            pipe.pttl(old)
            values, milliseconds = cast("tuple[list[bytes | None], int]", await pipe.execute())
        fields = {name: value for name, value in zip(_FIELDS, values, strict=True) if value is not None}
        if not fields or milliseconds == 0:
            return
        fields["state"] = self._spread(topic, fields.get("state", b""))
        fields["heard"] = to_json(self._heard(topic))
        fields["first"] = self._first(topic, fields.get("first", b""))
        key = staged(self._new.view(topic))
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, mapping=cast("dict[Any, Any]", fields))
            if milliseconds > 0:
                pipe.pexpire(key, milliseconds)
            await pipe.execute()
        await self._copy_feed(topic)
        self.views += 1

    def _spread(self, topic: Topic, stored: bytes) -> bytes:
        if topic.kind != "user":
            return stored
        try:
            state = decode_state("user", stored)
        except ValueError:
            self.unreadable.append(topic)
            return stored
        if not isinstance(state, UserState):
            raise TypeError("the state of a user is a UserState")
        return encode_state(spread(state, topic.tenant, self._new, self._ledger.ids))

    def _heard(self, topic: Topic) -> dict[str, str]:
        """Everything is projected: the view has heard all that a source has of it."""
        names = [source.name for source in heard_sources(self._new, topic)]
        if topic.kind == "user":
            names = [name for name in names if name in self._ledger.users.get(topic, set())]
        checkpoints = self._ledger.checkpoints
        return {name: str(checkpoints[name].stream_id) for name in names if name in checkpoints}

    def _first(self, topic: Topic, first: bytes) -> bytes:
        stream_id, mark, rest = first.partition(b" ")
        if not stream_id:
            return first
        for source in heard_sources(self._old, topic):
            moved = self._ledger.ids.get((source.name, StreamId.parse(stream_id)))
            if moved is not None:
                return str(moved).encode() + mark + rest
        return first

    async def _copy_feed(self, topic: Topic) -> None:
        old, new, after = self._old.feed(topic), staged(self._new.feed(topic)), BEGINNING
        milliseconds = int(await self._redis.pttl(old))
        while page := cast("list[Any]", await self._redis.xrange(old, min=f"({after}", count=_PAGE)):
            async with self._redis.pipeline(transaction=False) as pipe:
                for entry_id, fields in page:
                    pipe.xadd(new, self._feed_entry(topic, fields), id=entry_id.decode())
                if milliseconds > 0:
                    pipe.pexpire(new, milliseconds)
                await pipe.execute()
            after = StreamId.parse(page[-1][0])

    def _feed_entry(self, topic: Topic, fields: dict[bytes, bytes]) -> dict[Any, Any]:
        """The entry, with where its event stands in the log now."""
        if not self._ledger.ids:
            return cast("dict[Any, Any]", fields)
        try:
            event_type = cast("EventType", fields[b"event"].decode())
            data = cast("dict[str, Any]", from_json(fields[b"data"]))
            about = Topic(topic.tenant, *MODELS[event_type].model_construct(**data).subject)
            stream_id = StreamId.parse(fields[b"stream_id"])
        except (KeyError, ValueError, TypeError, AttributeError):  # written by another hand
            return cast("dict[Any, Any]", fields)
        source = self._old.source_of(event_type, about)
        return {**fields, b"stream_id": str(self._moved(source.name, stream_id))}

    async def _write_checkpoints(self) -> None:
        """Everything is projected; a generation above all there were makes every old cursor one of another epoch."""
        copies = [await self._redis.get(self._old.generation(p)) for p in range(self._old.partitions)]
        generation = max(int(cast("bytes | None", copy) or 0) for copy in copies) + 1
        checkpoints = {name: f"{offset} {stream_id}" for name, (offset, stream_id) in self._ledger.checkpoints.items()}
        for partition in range(self._new.partitions):
            await self._redis.set(staged(self._new.generation(partition)), generation)
            if checkpoints:
                mapping = cast("dict[Any, Any]", checkpoints)
                await self._redis.hset(staged(self._new.checkpoint(partition)), mapping=mapping)

    def _twin(self, source: Source, topic: Topic) -> Source:
        """The source of the new layout that has the topic's events of this stream."""
        return self._new.source(_stream_of(source.name), partition_of(topic, self._new.partitions))

    def _moved(self, source: str, stream_id: StreamId) -> StreamId:
        return self._ledger.ids.get((source, stream_id), stream_id)


def _offset(row: list[Any], known: bytes) -> bytes:
    """The offset of the entry; what was known when it is gone from the log."""
    return row[0][1].get(b"offset", known) if row else known


def _stream_of(source: str) -> str:
    """The stream that a source is a partition of."""
    return next(stream for stream in SOURCES if source == stream or source.startswith(f"{stream}:"))
