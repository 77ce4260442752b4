"""One viewer's stream: joining without a gap, then live, then the end.

Joining: subscribe, load what is missing, then pass on what the subscription holds beyond it. The hub may be behind
the store, so positions decide throughout.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, assert_never

from redis.exceptions import RedisError

from core.runtime.clock import now
from core.runtime.logs import get_logger
from core.views.folds import State, render
from core.views.store import ViewStore
from core.views.stored import Snapshot
from pipai_contracts.cursor import Cursor
from pipai_contracts.frames import (
    Connected,
    Disconnected,
    DisconnectReason,
    Reset,
    ResetReason,
    StreamError,
    encode_data,
    encode_frame,
)
from pipai_contracts.ids import Topic
from pipai_contracts.views import TERMINAL, RunView
from services.api import metrics
from services.api.changes import Change, make_change
from services.api.hub import Hub
from services.api.latest import latest_progress
from services.api.settings import ApiSettings
from services.api.subscription import Signal, Subscription
from services.api.temporal_status import TemporalQuery

_PAGE: Final = 500
_LINGER_SECONDS: Final = 2.0
"""How long a stream stays open after its run ended: a run that follows at once is seen without a reconnect."""

log = get_logger()


def nothing_left(snapshot: Snapshot, cursor: Cursor | None) -> bool:
    """Whether a viewer who comes back has seen everything and the run has ended: 204 stops its EventSource."""
    return cursor is not None and cursor == snapshot.cursor and has_ended(snapshot.state)


def has_ended(state: State | None) -> bool:
    """Whether the topic's latest run is over. A user's topic never is."""
    return isinstance(state, RunView) and state.status in TERMINAL


@dataclass(slots=True)
class _Place:
    """How far the viewer has been told, and whether the run was over there."""

    cursor: Cursor
    ended: bool


class Viewer:
    """Serves one topic to one viewer."""

    def __init__(
        self, topic: Topic, hub: Hub, store: ViewStore, settings: ApiSettings, temporal: TemporalQuery
    ) -> None:
        self._topic = topic
        self._hub = hub
        self._store = store
        self._settings = settings
        self._temporal = temporal

    async def frames(self, cursor: Cursor | None) -> AsyncGenerator[bytes]:
        """The stream's messages; with ``cursor`` what came after it, else the state first."""
        with self._hub.subscribe(self._topic) as subscription:
            question = self._ask_temporal(subscription)
            try:
                async for frame in self._serve(subscription, cursor):
                    yield frame
            finally:
                if question is not None:
                    question.cancel()

    def _ask_temporal(self, subscription: Subscription) -> asyncio.Task[None] | None:
        """Have Temporal's word on the workflow brought in when it comes; ``connected`` does not wait for it."""
        if self._topic.kind != "workflow":
            return None

        async def ask() -> None:
            answer = await self._temporal.status(self._topic.id)
            if answer is not None:
                subscription.offer(encode_frame("temporal_status", encode_data(answer)))

        return asyncio.create_task(ask())

    async def _serve(self, subscription: Subscription, cursor: Cursor | None) -> AsyncIterator[bytes]:
        try:
            snapshot = await self._hub.snapshot(self._topic)
            joined = self._join(snapshot) if cursor is None else await self._resume(snapshot, cursor)
        except RedisError:
            yield self._error("degraded", "The event store cannot be reached; come back later.")
            return
        for frame in joined:
            yield frame
        async for frame in self._live(subscription, _Place(snapshot.cursor, has_ended(snapshot.state))):
            yield frame

    def _join(self, snapshot: Snapshot) -> list[bytes]:
        frames = [self._connected(snapshot, snapshot.cursor)]
        if isinstance(snapshot.state, RunView):
            frames += latest_progress(self._topic, snapshot.state)
        return frames

    async def _resume(self, snapshot: Snapshot, cursor: Cursor) -> list[bytes]:
        reason = _unusable(cursor, snapshot)
        missed = None if reason else await self._missed(cursor, snapshot)
        if missed is None:
            return [self._connected(None, cursor), self._reset(snapshot, reason or "trimmed")]
        return [self._connected(None, cursor), *(change.frame for change in missed)]

    async def _missed(self, cursor: Cursor, snapshot: Snapshot) -> list[Change] | None:
        """The events between the viewer's cursor and the snapshot; None when the feed no longer has them all."""
        epoch, upto = snapshot.cursor
        changes: list[Change] = []
        after = cursor.pos
        while after < upto:
            page = await self._store.read_feed(self._topic, after=after, upto=upto, count=_PAGE)
            for item in page:
                if item.pos != after + 1:
                    return None
                after = item.pos
                changes.append(make_change(Cursor(epoch, item.pos), item.event, item.data))
            if not page:
                return None
        return changes

    async def _live(self, subscription: Subscription, place: _Place) -> AsyncIterator[bytes]:
        while True:
            items = await subscription.take(_LINGER_SECONDS if place.ended else None)
            if not items and place.ended:
                yield self._disconnected("completed", reconnect=False)
                return
            for item in items:
                match item:
                    case bytes():
                        yield item
                    case Change():
                        async for frame in self._pass_on(item, place):
                            yield frame
                    case "shutdown":
                        yield self._disconnected("shutdown", reconnect=True)
                        return
                    case _:
                        async for frame in self._tell(item, place):
                            yield frame

    async def _pass_on(self, change: Change, place: _Place) -> AsyncIterator[bytes]:
        """The change, unless the viewer has it; the state when something is missing before it."""
        epoch, pos = place.cursor
        if change.epoch == epoch and change.pos <= pos:
            return
        first = not epoch and change.pos == 1
        if not first and (change.epoch != epoch or change.pos != pos + 1):
            async for frame in self._start_over("epoch" if change.epoch != epoch else "lost", place):
                yield frame
            return
        place.cursor = Cursor(change.epoch, change.pos)
        place.ended = place.ended if change.ends is None else change.ends
        yield change.frame

    async def _tell(self, signal: Signal, place: _Place) -> AsyncIterator[bytes]:
        match signal:
            case "lost" | "slow":
                async for frame in self._start_over(signal, place):
                    yield frame
            case "degraded":
                yield self._error("degraded", "The event store cannot be reached; events arrive late.")
            case "recovered":
                yield self._error("recovered", "The event store is back.")
                async for frame in self._start_over("lost", place):
                    yield frame
            case "shutdown":
                return
            case _:
                assert_never(signal)

    async def _start_over(self, reason: ResetReason, place: _Place) -> AsyncIterator[bytes]:
        """The state as it is now, unless the viewer turns out to have missed nothing."""
        with suppress(RedisError):
            snapshot = await self._hub.snapshot(self._topic)
            if reason != "lost" or snapshot.cursor != place.cursor:
                place.cursor, place.ended = snapshot.cursor, has_ended(snapshot.state)
                yield self._reset(snapshot, reason)
            return
        yield self._error("degraded", "The event store cannot be reached; events may be missing until a reset.")

    def _connected(self, snapshot: Snapshot | None, cursor: Cursor) -> bytes:
        state = snapshot.state if snapshot else None
        connected = Connected(
            timestamp=now(),
            kind=self._topic.kind,
            id=self._topic.id,
            cursor=str(cursor),
            resumed=snapshot is None,
            view=render(state) if state is not None else None,
            heartbeat=self._settings.heartbeat_interval,
            retry=self._settings.reconnect_interval,
            attempts=self._settings.max_reconnect_attempts,
        )
        retry = self._settings.reconnect_interval
        return encode_frame("connected", encode_data(connected), frame_id=str(cursor), retry=retry)

    def _reset(self, snapshot: Snapshot, reason: ResetReason) -> bytes:
        metrics.RESETS.labels(reason).inc()
        log.info("stream reset", topic=self._topic.path, reason=reason)
        view = render(snapshot.state) if snapshot.state is not None else None
        reset = Reset(timestamp=now(), reason=reason, cursor=str(snapshot.cursor), view=view)
        return encode_frame("reset", encode_data(reset), frame_id=str(snapshot.cursor))

    def _disconnected(self, reason: DisconnectReason, *, reconnect: bool) -> bytes:
        return encode_frame(
            "disconnected", encode_data(Disconnected(timestamp=now(), reason=reason, reconnect=reconnect))
        )

    @staticmethod
    def _error(code: str, message: str) -> bytes:
        error = StreamError.model_validate({"timestamp": now(), "code": code, "message": message, "retryable": True})
        return encode_frame("error", encode_data(error))


def _unusable(cursor: Cursor, snapshot: Snapshot) -> ResetReason | None:
    """Why the feed cannot be resumed from the cursor; None when it can."""
    if cursor.pos == 0:
        return None
    if cursor.epoch != snapshot.cursor.epoch:
        return "epoch"
    return "ahead" if cursor.pos > snapshot.cursor.pos else None
