"""Writing a slice of history into the log of another deployment."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from core.log.entry import Entry
from core.log.errors import LogError, LogUnavailableError
from core.log.keys import Keys, Source, partition_of
from core.log.reader import LogReader
from core.runtime.lua import load_script
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, StreamId

_MOST: Final = 200
"""Entries one script call writes: while it runs Redis does nothing else."""

_MOST_BYTES: Final = 4 * 1024 * 1024
"""About how much it carries, unless a single entry has more."""


class NewerEntriesError(LogError):
    """The log has entries that a slice would have to stand before; the message names the stream."""


class Placed(NamedTuple):
    """An entry of another log, as append wrote it, with its source stream's name and its topic."""

    stream: str
    topic: Topic
    entry: Entry


class SliceWriter:
    """Appends entries of another log to that of one deployment, each in the partition its topic has there.

    Stream ids stay; where two partitions had used the same one, the later makes way by one. Offsets count anew, and who
    owns a topic is remembered as append does. Entries come in the order of their ids. Nobody else appends meanwhile:
    `NewerEntriesError` is raised where somebody did, and what was written before stays.
    """

    def __init__(self, redis: Redis, keys: Keys, *, owner_ttl: int) -> None:
        self._redis = redis
        self._keys = keys
        self._owner_ttl = owner_ttl
        self._newest: dict[Source, StreamId] = {}
        self._waiting: dict[Source, list[tuple[StreamId, Placed]]] = {}
        self._bytes: dict[Source, int] = {}
        self._script = load_script(redis, __file__, "slice.lua")
        self.written = 0

    async def check_room(self, first: Mapping[Source, StreamId]) -> None:
        """Check that the slice, whose first entry in each source is ``first``, comes after all that the log has.

        Raises:
            NewerEntriesError: it does not.
            redis.exceptions.RedisError: Redis did not answer.
        """
        log = LogReader(self._redis, self._keys)
        for source, stream_id in first.items():
            newest = await log.newest(source)
            if newest >= stream_id:
                raise NewerEntriesError(
                    f"{source.key} already goes up to {newest}, and the slice begins with {stream_id}: "
                    f"write it into an empty deployment (another KEY_PREFIX)"
                )

    async def add(self, placed: Placed) -> None:
        """Take one more entry; it is written with others.

        Raises:
            NewerEntriesError, LogUnavailableError: entries could not be written.
        """
        source = self._keys.source(placed.stream, partition_of(placed.topic, self._keys.partitions))
        stream_id = max(placed.entry.stream_id, self._newest.get(source, BEGINNING).next)
        self._newest[source] = stream_id
        waiting = self._waiting.setdefault(source, [])
        waiting.append((stream_id, placed))
        self._bytes[source] = self._bytes.get(source, 0) + sum(map(len, placed.entry.fields.values()))
        if len(waiting) >= _MOST or self._bytes[source] >= _MOST_BYTES:
            await self._write(source)

    async def finish(self) -> None:
        """Write what still waits.

        Raises:
            NewerEntriesError, LogUnavailableError: it could not be written.
        """
        for source in list(self._waiting):
            await self._write(source)

    async def _write(self, source: Source) -> None:
        stretch = self._waiting.pop(source)
        self._bytes[source] = 0
        arguments: list[str | int | bytes] = [self._owner_ttl]
        for stream_id, placed in stretch:
            fields = [part for pair in placed.entry.fields.items() for part in pair]
            arguments += [str(stream_id), placed.entry.fields.get(b"user", b""), len(fields), *fields]
        owners = [source.owner(placed.topic) for _, placed in stretch]
        try:
            await self._script(keys=[source.key, source.offset, *owners], args=arguments)
        except ResponseError as error:
            if "equal or smaller" not in str(error):
                raise LogUnavailableError(f"cannot write to {source.key}: {error}") from error
            raise NewerEntriesError(
                f"{source.key} has entries beyond {stretch[0][0]} by now: somebody appends to it"
            ) from error
        except RedisError as error:
            raise LogUnavailableError(f"cannot write to {source.key}: {error}") from error
        self.written += len(stretch)
