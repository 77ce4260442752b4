"""Following one source: what comes next, what is missing, how far the views are."""

import asyncio
from collections.abc import Sequence
from typing import Final, cast

from redis.asyncio import Redis

from core.log.entry import Entry
from core.log.keys import GROUP, Keys, Source
from core.log.read import read_entries
from core.log.trim import Trimmer
from core.runtime.logs import get_logger
from core.views.checkpoints import NOTHING, Checkpoint, Checkpoints
from core.views.errors import ViewsWentBackError
from pipai_contracts.record import StreamId
from services.projector import metrics
from services.projector.projection import Projection

_CONSUMER_PENDING: Final = 100

log = get_logger()


class Follower:
    """Brings every entry of one source, in order and without a hole, to the projection.

    The consumer group says when to look; the checkpoint says where the views are. What the group delivers is used
    when it follows the checkpoint, else the log itself is read from there: so a dropped reply, a rival reader or a
    dead projector's pending entries leave no hole.
    """

    def __init__(  # noqa: PLR0913 - a follower is where everything about one source meets
        self,
        redis: Redis,
        keys: Keys,
        source: Source,
        *,
        projection: Projection,
        checkpoints: Checkpoints,
        trimmer: Trimmer,
        batch: int,
        projecting: asyncio.Lock,
    ) -> None:
        self.source = source
        self._redis = redis
        self._keys = keys
        self._projection = projection
        self._checkpoints = checkpoints
        self._trimmer = trimmer
        self._batch = batch
        self._projecting = projecting
        self._checkpoint: Checkpoint | None = None

    async def take(self, entries: Sequence[Entry]) -> None:
        """Project what the group delivered, and what is missing before it; then acknowledge.

        Raises:
            redis.exceptions.RedisError: nothing is acknowledged; `catch_up` or a redelivery goes on from there.
        """
        hole = False
        with metrics.BATCH_SECONDS.labels(self.source.name).time():
            async with self._projecting:
                checkpoint = await self._load_checkpoint()
                fresh = [entry for entry in entries if entry.stream_id > checkpoint.stream_id]
                if fresh and not await self._project_delivered(checkpoint, fresh):
                    hole = True
                    await self._reload_checkpoint()
                    await self._read_on(upto=fresh[-1].stream_id)
        await self._acknowledge([entry.stream_id for entry in entries])
        if hole:  # what fills it may have been given out to nobody's ears, and would stay pending for ever
            await self.clear_pending()

    async def catch_up(self) -> int:
        """Project what lies in the log beyond the checkpoint, and clear pending entries that are in the views.

        Returns how many events that were. Called at the start, and when the group stays silent about entries.
        """
        async with self._projecting:
            await self._reload_checkpoint()
            count = await self._read_on(upto=None)
        metrics.CAUGHT_UP.labels(self.source.name).inc(count)
        await self.clear_pending()
        return count

    async def oldest_waiting(self) -> StreamId | None:
        """The oldest event that is not in its views yet; None when all are. Its age goes into the metrics."""
        checkpoint = await self._checkpoints.load(self.source)
        oldest = await read_entries(self._redis, self.source, after=checkpoint.stream_id, count=1)
        lag = 0.0
        if oldest:
            seconds, micros = await self._redis.time()
            lag = max(seconds + micros / 1e6 - oldest[0].stream_id.milliseconds / 1e3, 0.001)
        metrics.LAG_SECONDS.labels(self.source.name).set(lag)
        return oldest[0].stream_id if oldest else None

    async def _project_delivered(self, checkpoint: Checkpoint, entries: Sequence[Entry]) -> bool:
        """Project what was delivered if it follows the checkpoint, and the views are as far as that; False if not."""
        if not _follows(checkpoint, entries):
            return False
        try:
            await self._project(entries)
        except ViewsWentBackError:
            return False
        return True

    async def _read_on(self, *, upto: StreamId | None) -> int:
        count = 0
        while True:
            checkpoint = await self._load_checkpoint()
            entries = await read_entries(
                self._redis, self.source, after=checkpoint.stream_id, upto=upto, count=self._batch
            )
            if not entries:
                return count
            await self._note_loss(checkpoint, entries)
            await self._project(entries, read_before=True)
            count += len(entries)

    async def _reload_checkpoint(self) -> None:
        """Take the checkpoint from Redis, not from memory: a rival may be further, and Redis may have gone back.

        In the latter case views went back with it, so the same positions will stand for other events.
        """
        known, stored = self._checkpoint or NOTHING, await self._checkpoints.load(self.source)
        if stored.stream_id < known.stream_id:
            metrics.REGRESSED.labels(self.source.name).inc()
            log.error("views went back", stream=self.source.key, known=str(known.stream_id), now=str(stored.stream_id))
            await self._projection.begin_generation()
        self._checkpoint = stored  # not before: a failure above would forget that the views went back

    async def _note_loss(self, checkpoint: Checkpoint, entries: Sequence[Entry]) -> None:
        """Count what is gone from the log for good. Viewers are told before they see what comes after the hole."""
        expected = checkpoint.offset + 1
        lost = regressed = 0
        for entry in entries:
            if entry.offset == 0:
                continue
            if entry.offset < expected:
                regressed += 1
                log.error("stream went back", stream=self.source.key, expected=expected, offset=entry.offset)
            lost += max(entry.offset - expected, 0)
            expected = entry.offset + 1
        if lost:
            log.error("stream lost events", stream=self.source.key, lost=lost, after=str(checkpoint.stream_id))
        if lost or regressed:
            metrics.LOST.labels(self.source.name).inc(lost)
            metrics.REGRESSED.labels(self.source.name).inc(regressed)
            await self._projection.begin_generation()

    async def _project(self, entries: Sequence[Entry], *, read_before: bool = False) -> None:
        log.debug("stream batch", stream=self.source.key, events=len(entries), first=str(entries[0].stream_id))
        since = await self._load_checkpoint()
        await self._projection.project(self.source, entries, since.stream_id, read_before=read_before)
        offset = next((entry.offset for entry in reversed(entries) if entry.offset), since.offset)
        checkpoint = Checkpoint(offset, entries[-1].stream_id)
        await self._checkpoints.advance(self.source, checkpoint, since=since)
        self._checkpoint = checkpoint
        metrics.PROJECTED.labels(self.source.name).inc(len(entries))
        await self._trimmer.trim(self.source, checkpoint.offset, checkpoint.stream_id)

    async def _load_checkpoint(self) -> Checkpoint:
        if self._checkpoint is None:
            self._checkpoint = await self._checkpoints.load(self.source)
        return self._checkpoint

    async def _acknowledge(self, stream_ids: Sequence[StreamId]) -> None:
        if stream_ids:
            await self._redis.xack(self.source.key, GROUP, *[str(stream_id) for stream_id in stream_ids])

    async def clear_pending(self) -> None:
        """Acknowledge entries this consumer was given once and that are in the views by now."""
        checkpoint = await self._load_checkpoint()
        start = "0"
        while True:
            reply = await self._redis.xreadgroup(
                GROUP, consumer_name(self.source), {self.source.key: start}, count=_CONSUMER_PENDING
            )
            rows = cast("list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]", reply)
            pending = rows[0][1] if rows else []
            done = [stream_id for stream_id, _ in pending if StreamId.parse(stream_id) <= checkpoint.stream_id]
            if done:
                await self._redis.xack(self.source.key, GROUP, *done)
            if len(pending) < _CONSUMER_PENDING:
                return
            start = pending[-1][0].decode()


def consumer_name(source: Source) -> str:
    """The one consumer of the group that reads this source, whichever process it runs in."""
    return f"partition-{source.partition}"


def _follows(checkpoint: Checkpoint, entries: Sequence[Entry]) -> bool:
    """Whether the entries come right after the checkpoint, one by one."""
    return bool(entries) and all(
        entry.offset == checkpoint.offset + place for place, entry in enumerate(entries, start=1)
    )
