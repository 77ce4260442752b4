"""What keeps the streams at their bounds beside the following: called after batches, and by the watch."""

import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.checkpoint import Checkpoint
from core.log.groups import ForeignGroups
from core.log.keys import Keys, Source
from core.log.trim import Trimmed, Trimmer
from core.runtime.logs import get_logger
from core.views.checkpoints import Checkpoints
from core.views.feeds import bound_changes
from pipai_contracts.record import BEGINNING, StreamId
from services.projector import metrics
from services.projector.settings import ProjectorSettings

_SLACK: Final = 100
"""Offsets between two trims of a source: a trim for each event would cost more than the event."""

HELD_LIMIT: Final = 100_000
"""Entries over its length that a source keeps for groups of others, at most."""

_LOOK_EVERY: Final = 5.0
"""Seconds between two looks at streams that something happened to. Quiet ones within their length are left alone."""

_ROUNDS: Final = 20
"""Trims of a thousand entries one look makes: the other sources wait for it."""

_SILENT: Final = "it has not read for GROUP_IDLE_LIMIT, so entries it has not had were trimmed"

log = get_logger()


class Retention:
    """Trims the source streams and bounds the change feeds of one deployment."""

    def __init__(self, redis: Redis, keys: Keys, settings: ProjectorSettings) -> None:
        self._redis = redis
        self._keys = keys
        self._checkpoints = Checkpoints(redis, keys)
        self._archived = ArchiveCheckpoints(redis)
        groups = ForeignGroups(redis, idle_limit=settings.group_idle_limit)
        self._trimmer = Trimmer(redis, groups, max_entries=settings.stream_max_entries, held_limit=HELD_LIMIT)
        self._max_entries = settings.stream_max_entries
        self._passed: dict[Source, deque[Checkpoint]] = {}
        self._trimmed_at: dict[Source, int] = {}
        self._looked_at: dict[Source, float] = {}
        self._batches: Counter[Source] = Counter()
        self._settled: dict[Source, int] = {}
        self._left_behind: dict[Source, frozenset[bytes]] = {}
        self._failed: set[Source] = set()
        self._bounded_at = 0.0

    async def after(self, source: Source, checkpoint: Checkpoint) -> None:
        """Trim the source when it has grown since the last time. ``checkpoint`` is where the caller is.

        Never beyond the stored one: after a failover that lost it, the events it stood for are only in the log.

        Raises:
            redis.exceptions.ConnectionError: Redis is away. What else fails is told, and no batch fails for it.
        """
        self._batches[source] += 1
        grown = checkpoint.offset - self._trimmed_at.get(source, -_SLACK)
        if 0 <= grown < _SLACK:  # offsets that went back, as after a flush, begin anew
            return
        self._trimmed_at[source] = checkpoint.offset
        below = self._remembered(source, checkpoint)
        try:
            required = await self._required(source)
            if below is None or not await self._trimmer.trim_below(source, min(below.stream_id, *required)):
                await self._trim(source, [checkpoint.stream_id, *required])
        except ResponseError as error:
            self._tell_failure(source, error)

    def _remembered(self, source: Source, checkpoint: Checkpoint) -> Checkpoint | None:
        """The newest checkpoint passed that is as far behind as the stream is to be long; None while there is none."""
        passed = self._passed.setdefault(source, deque())
        if passed and checkpoint.offset <= passed[-1].offset:  # of another log: what was passed there says nothing
            passed.clear()
        passed.append(checkpoint)
        while len(passed) > 1 and passed[1].offset <= checkpoint.offset - self._max_entries:
            passed.popleft()
        return passed[0] if passed[0].offset <= checkpoint.offset - self._max_entries else None

    async def look(self, source: Source) -> None:
        """Bring a source that events were projected from down to its length, also when no more come.

        Raises:
            redis.exceptions.ConnectionError: Redis is away. What else fails is told.
        """
        due = self._looked_at.get(source, -_LOOK_EVERY) + _LOOK_EVERY
        batches = self._batches[source]
        if self._settled.get(source) == batches or time.monotonic() < due:
            return
        self._looked_at[source] = time.monotonic()
        try:
            if await self._bring_down(source):
                self._settled[source] = batches
            await self._bound_changes()
        except ResponseError as error:
            self._tell_failure(source, error)

    async def _bring_down(self, source: Source) -> bool:
        """Trim again and again, though not for ever; whether nothing is over the length."""
        required = await self._required(source)
        if BEGINNING in required[1:]:  # the archive was switched on a moment ago, and lets nothing go yet
            return False
        for _ in range(_ROUNDS):
            trimmed = await self._trim(source, required)
            if not trimmed.gone or not trimmed.left:
                return not trimmed.left
        return False

    async def _required(self, source: Source) -> list[StreamId]:
        """How far those are who must have an entry before it goes: every view, and the archive where there is one."""
        archived = (await self._archived.load([source]))[source]
        return [one.stream_id for one in (await self._checkpoints.load(source), archived) if one is not None]

    async def _trim(self, source: Source, required: Sequence[StreamId]) -> Trimmed:
        trimmed = await self._trimmer.trim(source, required)
        self._failed.discard(source)
        metrics.HELD_ENTRIES.labels(source.name).set(trimmed.held)
        if trimmed.taken:
            metrics.TAKEN_ENTRIES.labels(source.name).inc(trimmed.taken)
            log.warning("stream entries trimmed that a group still needs", stream=source.key, entries=trimmed.taken)
        for group in trimmed.left_behind - self._left_behind.get(source, frozenset()):
            metrics.LEFT_BEHIND.labels(source.name).inc()
            log.warning(
                "stream group left behind", stream=source.key, group=group.decode(errors="replace"), why=_SILENT
            )
        if trimmed.gone:
            self._left_behind[source] = trimmed.left_behind
        return trimmed

    async def _bound_changes(self) -> None:
        if time.monotonic() < self._bounded_at + _LOOK_EVERY:
            return
        self._bounded_at = time.monotonic()
        for partition in range(self._keys.partitions):
            gone = await bound_changes(self._redis, self._keys, partition)
            if gone:
                log.warning("change feed halved: its events are large", partition=partition, entries=gone)

    def _tell_failure(self, source: Source, error: RedisError) -> None:
        if source not in self._failed:
            log.error("stream cannot be kept at its bounds", stream=source.key, error=str(error))
        self._failed.add(source)
