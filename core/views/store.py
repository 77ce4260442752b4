"""Where views stand in Redis: loading, committing, and reading a topic's feed."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import compress
from typing import Any, Final, NamedTuple, cast

from pydantic_core import from_json, to_json
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from core.log.keys import Keys, Source
from core.runtime.lua import load_script
from core.views.errors import GenerationChangedError, UnreadableViewError, ViewsWentBackError
from core.views.folds import decode_state, encode_state
from core.views.newest import CHANGE_FEED, NewestChanges
from core.views.stored import Snapshot, Stored, Update, epoch_of, unheard_of
from pipai_contracts.cursor import START, Cursor
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId

MAX_VIEWS_PER_COMMIT: Final = 100
"""Views one commit call writes: while it runs Redis does nothing else."""

MAX_EVENTS_PER_COMMIT: Final = 500
"""Events one commit call writes, unless a single view alone has more: some 10 µs each, in which nobody is served."""

CHANGES_LENGTH: Final = 10_000
"""Entries of a change feed: an api process further behind resyncs its viewers."""


MAX_COMMIT_BYTES: Final = 4 * 1024 * 1024
"""About how much one commit call carries, unless a single view alone has more."""


class FeedItem(NamedTuple):
    """A feed entry read back, with its position; ``stream_id`` is where it stands in the log."""

    pos: int
    event: str
    data: bytes
    stream_id: StreamId


class ViewStore:
    """Views and feeds of one deployment."""

    def __init__(self, redis: Redis, keys: Keys, *, feed_length: int, ttl: int) -> None:
        self._redis = redis
        self._keys = keys
        self.feed_length = feed_length
        self.ttl = ttl
        self.newest = NewestChanges()
        self._commit = load_script(redis, __file__, CHANGE_FEED, "commit.lua")
        self._raise = load_script(redis, __file__, CHANGE_FEED, "raise.lua")

    async def load(self, topics: Sequence[Topic]) -> dict[Topic, Stored]:
        """The views as they stand; `unheard_of` for a topic without one.

        A view whose stored form no fold can read is left out: it must not stop the views it was asked for with.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            for topic in topics:
                pipe.hmget(self._keys.view(topic), "version", "pos", "first", "heard", "state")
            rows = cast("list[list[bytes | None] | ResponseError]", await pipe.execute(raise_on_error=False))
        views: dict[Topic, Stored] = {}
        for topic, row in zip(topics, rows, strict=True):
            with suppress(ValueError):
                if not isinstance(row, ResponseError):
                    views[topic] = _stored(topic, row)
        return views

    async def snapshot(self, topic: Topic, partition: int) -> Snapshot:
        """The view and its cursor, of one moment.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
            UnreadableViewError: what is stored is no view, or none this build can read.
        """
        try:
            rows, generation = await self._read_views([topic], partition)
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            raise _unreadable(topic) from error
        snapshot = _snapshot(topic, rows[0], generation)
        if isinstance(snapshot, UnreadableViewError):
            raise snapshot
        return snapshot

    async def snapshots(self, topics: Sequence[Topic], partition: int) -> list[Snapshot | UnreadableViewError]:
        """The views of some topics of one partition, all of one moment, each with its cursor or why it has none.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        try:
            rows, generation = await self._read_views(topics, partition)
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            return [await self._try_snapshot(topic, partition) for topic in topics]
        return [_snapshot(topic, row, generation) for topic, row in zip(topics, rows, strict=True)]

    async def _try_snapshot(self, topic: Topic, partition: int) -> Snapshot | UnreadableViewError:
        try:
            return await self.snapshot(topic, partition)
        except UnreadableViewError as error:
            return error

    async def _read_views(self, topics: Sequence[Topic], partition: int) -> tuple[list[list[bytes | None]], int]:
        async with self._redis.pipeline(transaction=True) as pipe:
            for topic in topics:
                pipe.hmget(self._keys.view(topic), "version", "pos", "first", "heard", "state")
            pipe.get(self._keys.generation(partition))
            *rows, generation = await pipe.execute()
        return rows, int(generation or 0)

    async def commit(
        self, partition: int, generation: int, updates: Sequence[Update], *, source: Source, since: StreamId
    ) -> list[int]:
        """Write views of one partition, each with its events; at most `MAX_VIEWS_PER_COMMIT`.

        The events follow the checkpoint ``since`` of ``source``.

        Returns per view how many bytes its state has; 0: another wrote it first, fold again on what is there now.

        Raises:
            GenerationChangedError: nothing was written.
            ViewsWentBackError: nothing was written.
        """
        keys = self._keys
        script_keys = [keys.changes(partition), keys.generation(partition), keys.checkpoint(partition)]
        arguments: list[str | int | bytes] = [generation, self.feed_length, CHANGES_LENGTH, self.ttl]
        newest_known = self.newest.get(partition)
        arguments += [source.name, *since, newest_known.number if newest_known else 0]
        sizes: list[int] = []
        for update in updates:
            after = update.after
            state = encode_state(after.state)
            sizes.append(len(state))
            script_keys += [self._keys.view(update.topic), self._keys.feed(update.topic)]
            arguments += [
                update.topic.path,
                update.before.version,
                after.version,
                update.before.pos,
                epoch_of(generation, after.first),
                after.first,
                to_json({source: str(stream_id) for source, stream_id in after.heard.items()}),
                state,
                len(update.entries),
            ]
            for entry in update.entries:
                arguments += [entry.event, entry.data, entry.stream_id]
        outcome = cast("list[int] | bytes", await self._commit(keys=script_keys, args=arguments))
        if isinstance(outcome, bytes):
            error = GenerationChangedError if outcome == b"generation" else ViewsWentBackError
            raise error(f"view partition {partition}")
        newest, *written = outcome
        self.newest.written(partition, newest, list(compress(updates, written)))
        return [size if one else 0 for size, one in zip(sizes, written, strict=True)]

    async def generation(self, partition: int) -> int:
        """The partition's generation; 0 until something was lost."""
        return int(cast("bytes | None", await self._redis.get(self._keys.generation(partition))) or 0)

    async def raise_generation(self, partition: int) -> int:
        """Begin another generation: every viewer of the partition gets ``reset``."""
        keys = [self._keys.generation(partition), self._keys.changes(partition)]
        return int(cast("bytes", await self._raise(keys=keys, args=[CHANGES_LENGTH])))

    async def read_feed(self, topic: Topic, *, after: int, upto: int | None = None, count: int) -> list[FeedItem]:
        """At most ``count`` feed entries with positions after ``after`` up to ``upto`` (None: the newest)."""
        end = f"{upto}-0" if upto is not None else "+"
        reply = await self._redis.xrange(self._keys.feed(topic), min=f"{after + 1}-0", max=end, count=count)
        return [
            FeedItem(
                StreamId.parse(entry_id).milliseconds,
                fields[b"event"].decode(),
                fields[b"data"],
                StreamId.parse(fields.get(b"stream_id", b"0-0")),
            )
            for entry_id, fields in cast("list[Any]", reply)
        ]


def commit_calls(updates: Sequence[Update]) -> Iterator[Sequence[Update]]:
    """The updates in portions for `ViewStore.commit`."""
    call: list[Update] = []
    events = size = 0
    for update in updates:
        grows = sum(len(entry.data) for entry in update.entries)
        full = len(call) == MAX_VIEWS_PER_COMMIT or events + len(update.entries) > MAX_EVENTS_PER_COMMIT
        if call and (full or size + grows > MAX_COMMIT_BYTES):
            yield call
            call, events, size = [], 0, 0
        call.append(update)
        events += len(update.entries)
        size += grows
    if call:
        yield call


def _snapshot(topic: Topic, row: list[bytes | None], generation: int) -> Snapshot | UnreadableViewError:
    try:
        stored = _stored(topic, row)
    except ValueError:
        return _unreadable(topic)
    if not stored.version:
        return Snapshot(START, None)
    return Snapshot(Cursor(epoch_of(generation, stored.first), stored.pos), stored.state)


def _unreadable(topic: Topic) -> UnreadableViewError:
    return UnreadableViewError(f"the stored view of {topic.name} cannot be read")


def _stored(topic: Topic, row: list[bytes | None]) -> Stored:
    version, pos, first, heard, state = row
    if version is None or pos is None or first is None or heard is None or state is None:
        return unheard_of(topic)
    ids = cast("dict[str, str]", from_json(heard))
    return Stored(
        version.decode(),
        int(pos),
        first.decode(),
        {source: StreamId.parse(stream_id) for source, stream_id in ids.items()},
        decode_state(topic.kind, state),
    )
