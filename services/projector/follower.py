"""Following one source: what comes next, what is missing, how far the views are."""

import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.checkpoint import NOTHING, Checkpoint
from core.log.entry import Entry
from core.log.history import History
from core.log.keys import Keys, Source
from core.log.read import entries_of, read_entries
from core.runtime.logs import get_logger
from core.runtime.redis import ask_holder
from core.views.checkpoints import Checkpoints
from core.views.errors import GenerationChangedError, LostBaseError, RepairNeededError, ViewsWentBackError
from core.views.setback import Setbacks, stands_at
from pipai_contracts.record import StreamId
from services.projector import metrics
from services.projector.continuity import contradicts, follows, gaps, misses_some, portions
from services.projector.missing import with_archived
from services.projector.pending import Pending
from services.projector.projection import Projection
from services.projector.reads import FIRST_COUNT, next_count
from services.projector.retention import Retention
from services.projector.stretch import Stretch
from services.projector.survey import Survey
from services.projector.turns import Turns

log = get_logger()


class Follower:
    """Brings every entry of one source, in order and without a hole, to the projection.

    The consumer group says when to look; the checkpoint says where the views are. What the group delivers is used
    when it follows what was handed to the projection last, else the log itself is read from the checkpoint on: so a
    dropped reply, a rival reader or a dead projector's pending entries leave no hole.
    """

    def __init__(  # noqa: PLR0913 - a follower is where everything about one source meets
        self,
        redis: Redis,
        keys: Keys,
        source: Source,
        *,
        projection: Projection,
        checkpoints: Checkpoints,
        setbacks: Setbacks,
        survey: Survey,
        history: History,
        retention: Retention,
        batch: int,
        turns: Turns,
    ) -> None:
        self.source = source
        self._redis = redis
        self._keys = keys
        self._projection = projection
        self._checkpoints = checkpoints
        self._setbacks = setbacks
        self._survey = survey
        self._history = history
        self._retention = retention
        self._batch = batch
        self._turns = turns
        self._pending = Pending(redis, source)
        self._checkpoint: Checkpoint | None = None
        """The newest we know of in Redis."""
        self._known_at = 0.0
        """When (s of the monotonic clock) Redis last said where the checkpoint is."""
        self._reached: Checkpoint | None = None
        """Where the checkpoint will be once all that was folded is committed; None: to be asked of Redis."""
        self.doubtful = False
        """Whether the log lacks the event of the checkpoint, so that it may have gone back: `catch_up` finds out."""
        self._compared = NOTHING
        """The checkpoint that was last compared with the log."""
        self._went_back = False
        """Whether a commit of ours is gone, which viewers are to be told of."""
        self._waits_for: StreamId | None = None
        """The event of a newer build that has to wait, and everything after it with it."""

    async def begin(self, entries: Sequence[Entry]) -> None:
        """Fold what the group delivered, and what is missing before it; it is committed, then acknowledged, meanwhile.

        Raises:
            redis.exceptions.RedisError, core.views.errors.CommitError: these entries, or those of the time before,
                are not acknowledged; `catch_up` or a redelivery goes on from the checkpoint.
        """
        began = time.perf_counter()
        if self._waits_for is not None:
            await self._pending.acknowledge(entries)  # they stay in the log, and do not fill the list of pending ones
            return
        async with self._turns.folding:
            reached = await self._load_reached()
            fresh = [entry for entry in entries if entry.stream_id > reached.stream_id]
            contradicted = contradicts(reached, entries[: len(entries) - len(fresh)])
            if follows(reached, fresh) and not contradicted:
                *earlier, last = portions(fresh, self._projection.portion)
                for portion in earlier:
                    if await self._project(portion, began) < len(portion):
                        break
                else:
                    await self._project(last, began, delivered=entries)
                if self._waits_for is not None:
                    await self._pending.acknowledge(entries)
                return
            if fresh or contradicted:
                await self._turns.settled()
                await self._reload_checkpoint()
                await self._read_on(upto=None if contradicted else fresh[-1].stream_id)
            await self._turns.settled()
        await self._pending.acknowledge(entries)
        if fresh:  # what fills the hole may have been given out to nobody's ears, and would stay pending for ever
            await self.clear_pending()

    async def catch_up(self) -> int:
        """Project what lies in the log beyond the checkpoint, and clear pending entries that are in the views.

        Returns how many events that were. Called at the start, and when the group stays silent about entries.
        """
        async with self._turns.folding:
            await self._turns.end()
            await self._reload_checkpoint()
            count = await self._read_on(upto=None)
            await self._turns.settled()
        metrics.CAUGHT_UP.labels(self.source.name).inc(count)
        await self.clear_pending()
        return count

    async def oldest_waiting(self) -> StreamId | None:
        """The oldest event that is not in its views yet; None when all are. Its age goes into the metrics."""
        seen = await self._survey.of(self.source)
        known = self._checkpoint if self._known_at > seen.asked_at else None
        checkpoint = known or seen.copies.lowest
        reply = await self._redis.xrange(self.source.key, min=str(checkpoint.stream_id), count=2)
        found = entries_of(cast("list[Any]", reply))
        self.doubtful = not stands_at(checkpoint, found) and checkpoint not in {NOTHING, self._compared}
        oldest = [entry for entry in found if entry.stream_id > checkpoint.stream_id]
        lag = 0.0
        if oldest:
            seconds, micros = await ask_holder(self._redis, self.source.key, "TIME")
            lag = max(seconds + micros / 1e6 - oldest[0].stream_id.milliseconds / 1e3, 0.001)
        metrics.LAG_SECONDS.labels(self.source.name).set(lag)
        if not oldest and self._waits_for is not None:  # somebody took it away
            self._note_waiting(None)
        return oldest[0].stream_id if oldest else None

    async def _read_on(self, *, upto: StreamId | None) -> int:
        """Project what lies in the log beyond what was reached; returns how many entries that were."""
        count, asked = 0, min(FIRST_COUNT, self._batch)
        while True:
            began = time.perf_counter()
            reached = await self._load_reached()
            entries = await read_entries(self._redis, self.source, after=reached.stream_id, upto=upto, count=asked)
            if not entries:
                return count
            asked = min(next_count(asked, [entry.fields for entry in entries]), self._batch)
            parked: AbstractSet[StreamId] = frozenset()
            if misses_some(reached, entries):
                if await self._is_overtaken(reached):
                    continue
                entries, parked = await with_archived(self._history, self.source, reached.stream_id, entries)
            await self._note_loss(reached, entries)
            for portion in portions(entries, self._projection.portion):
                taken = await self._project(portion, began, parked=parked)
                count += taken
                if taken < len(portion):
                    return count

    async def _project(
        self,
        entries: Sequence[Entry],
        began: float,
        *,
        delivered: Sequence[Entry] = (),
        parked: AbstractSet[StreamId] | None = None,
    ) -> int:
        """Fold the entries and have them committed in turn; returns how many of them this build can read.

        ``parked``: they may have been read before, and at least these were parked then: such are left out.
        """
        log.debug("stream batch", stream=self.source.key, events=len(entries), first=str(entries[0].stream_id))
        since = self._reached
        if since is None:  # asked for anew it would be older, and what lies between in no view
            raise LostBaseError(f"the events of {self.source.key} before {entries[0].stream_id} were not committed")
        try:
            stretch = await self._fold(entries, parked)
            waiting = entries[len(stretch.entries)].stream_id if stretch.newer is not None else None
            self._note_waiting(waiting, str(stretch.newer))
            if stretch.entries:
                offset = next((entry.offset for entry in reversed(stretch.entries) if entry.offset), since.offset)
                reached = Checkpoint(offset, stretch.entries[-1].stream_id)
                await self._turns.commit(
                    partial(self._finish, stretch, since, reached, began),
                    partial(self._tidy, reached, delivered),
                )
                self._reached = reached
        except Exception:
            self._start_over()
            raise
        return len(stretch.entries)

    async def _fold(self, entries: Sequence[Entry], parked: AbstractSet[StreamId] | None) -> Stretch:
        try:
            return await self._projection.fold(self.source, entries, parked=parked)
        except RepairNeededError as error:
            # What is being committed may be making the same views anew; two at once would undo each other's work.
            await self._turns.settled()
            await self._projection.repair_views(error.topics)
            return await self._projection.fold(self.source, entries, parked=parked)

    async def _finish(self, stretch: Stretch, since: Checkpoint, reached: Checkpoint, began: float) -> None:
        """Commit a stretch, then move the checkpoint behind it. Each may be repeated after a crash.

        What it fails with is told by who waits for it.
        """
        try:
            await self._projection.commit(stretch, since.stream_id)
            await self._advance(reached, since)
            metrics.PROJECTED.labels(self.source.name).inc(len(stretch.entries))
            metrics.BATCH_SECONDS.labels(self.source.name).observe(time.perf_counter() - began)
        except Exception as error:
            self._went_back = self._went_back or isinstance(error, ViewsWentBackError)
            self._start_over()
            raise

    async def _tidy(self, reached: Checkpoint, delivered: Sequence[Entry]) -> None:
        """Acknowledge what the checkpoint is behind, and trim. What fails here is made good later."""
        try:
            await self._pending.acknowledge(delivered)
            await self._retention.after(self.source, reached)
        except RedisError as error:
            log.warning("stream batch not acknowledged", stream=self.source.key, error=str(error))

    async def _advance(self, reached: Checkpoint, since: Checkpoint) -> None:
        """Move the checkpoint, if Redis still has what it stands for."""
        try:
            await self._checkpoints.advance(self.source, reached, since=since, known=self._projection.known())
        except GenerationChangedError:
            self._projection.forget_generations()
            raise
        self._checkpoint, self._known_at = reached, time.monotonic()

    def _start_over(self) -> None:
        """What was folded beyond the checkpoint will not be committed: go on from there, and from what is stored."""
        self._reached = None
        self._projection.forget()

    def _note_waiting(self, stream_id: StreamId | None, reason: str = "") -> None:
        """Note which event of a newer build stops the source here, if any."""
        if stream_id is not None and stream_id != self._waits_for:
            log.error("stream waits for an upgrade", stream=self.source.key, reason=reason)
        self._waits_for = stream_id
        metrics.WAITING.labels(self.source.name).set(stream_id is not None)

    async def _load_reached(self) -> Checkpoint:
        if self._reached is None:
            await self._reload_checkpoint()
        return cast("Checkpoint", self._reached)

    async def _reload_checkpoint(self) -> None:
        """Take the checkpoint from Redis, not from memory: a rival may be further, and Redis may have gone back.

        In the latter case views went back with it, so the same positions will stand for other events.
        """
        self._projection.forget()  # a view that heard of what comes after the stored checkpoint would skip it
        known, stored = self._checkpoint or NOTHING, await self._load_checkpoint()
        if self._went_back or stored.stream_id < known.stream_id:
            metrics.REGRESSED.labels(self.source.name).inc()
            places = {"known": str(known.stream_id), "now": str(stored.stream_id)}
            log.error("stream or views went back", stream=self.source.key, **places)
            await self._projection.begin_generation()
        self._checkpoint = self._reached = stored  # not before: a failure above would forget that the views went back
        self._went_back, self._known_at = False, time.monotonic()

    async def _load_checkpoint(self) -> Checkpoint:
        """The stored checkpoint, and a log that has nothing below it which is in no view."""
        copies = (await self._checkpoints.load_all([self.source]))[self.source]
        if await self._setbacks.mend(self.source, copies):
            self._went_back = True
            copies = (await self._checkpoints.load_all([self.source]))[self.source]
        self._compared = copies.lowest
        return copies.lowest

    async def _is_overtaken(self, reached: Checkpoint) -> bool:
        """Whether a rival is further by now, and what is missing may be trimmed, not lost; if so go on there."""
        stored = await self._checkpoints.load(self.source)
        if stored.stream_id <= reached.stream_id:
            return False
        self._checkpoint = self._reached = stored
        return True

    async def _note_loss(self, checkpoint: Checkpoint, entries: Sequence[Entry]) -> None:
        """Count what is gone from the log for good. Viewers are told before they see what comes after the hole."""
        lost, regressed = gaps(checkpoint, entries)
        if regressed:
            log.error("stream went back", stream=self.source.key, after=str(checkpoint.stream_id), times=regressed)
        if lost:
            log.error("stream lost events", stream=self.source.key, lost=lost, after=str(checkpoint.stream_id))
        if lost or regressed:
            metrics.LOST.labels(self.source.name).inc(lost)
            metrics.REGRESSED.labels(self.source.name).inc(regressed)
            await self._projection.begin_generation()

    async def clear_pending(self) -> None:
        """Acknowledge entries this consumer was given once and that are in the views by now."""
        checkpoint = self._checkpoint or await self._checkpoints.load(self.source)
        await self._pending.clear(upto=checkpoint.stream_id)
