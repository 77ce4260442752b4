"""One viewer's stream: joining without a gap, then live, then the end.

Joining: subscribe, load what is missing, then pass on what the subscription holds beyond it. The hub may be behind
the store, so positions decide throughout.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Final, Literal, assert_never

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
    ErrorCode,
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

_PAGE: Final = 100
_LINGER_SECONDS: Final = 2.0
"""How long a stream stays open after its run ended: a run that follows at once is seen without a reconnect."""

_RETRY_SECONDS: Final = 1.0
"""Until the state is asked for again after the store did not answer."""

Doubt = Literal["began", "epoch", "lost", "slow", "recovered"]
"""Why the viewer may have missed something."""

log = get_logger()


def nothing_left(snapshot: Snapshot, cursor: Cursor | None) -> bool:
    """Whether a viewer who comes back has seen everything and the run has ended: 204 stops its EventSource."""
    return cursor is not None and cursor == snapshot.cursor and has_ended(snapshot.state)


def has_ended(state: State | None) -> bool:
    """Whether the topic's latest run is over. A user's topic never is."""
    return isinstance(state, RunView) and state.status in TERMINAL


@dataclass(slots=True)
class _Place:
    """How far the viewer has been told, whether the run was over there, and what is still to be found out."""

    cursor: Cursor
    ended: bool
    doubt: Doubt | None = None


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
            async for frame in self._join(snapshot) if cursor is None else self._resume(snapshot, cursor):
                yield frame
        except RedisError:
            yield self._error("degraded", "The event store cannot be reached; come back later.")
            return
        except ValueError:
            log.exception("stream state cannot be read", topic=self._topic.path)
            yield self._error("internal", "The state of this topic cannot be read.", retryable=False)
            return
        async for frame in self._live(subscription, _Place(snapshot.cursor, has_ended(snapshot.state))):
            yield frame

    async def _join(self, snapshot: Snapshot) -> AsyncIterator[bytes]:
        yield self._connected(snapshot, snapshot.cursor)
        if isinstance(snapshot.state, RunView):
            for frame in latest_progress(self._topic, snapshot.state):
                yield frame

    async def _resume(self, snapshot: Snapshot, cursor: Cursor) -> AsyncIterator[bytes]:
        yield self._connected(None, cursor)
        async for frame in self._beyond(snapshot, cursor):
            yield frame

    async def _beyond(self, snapshot: Snapshot, cursor: Cursor) -> AsyncIterator[bytes]:
        """What brings a viewer from the cursor to the snapshot: the events between, else a reset.

        A page at a time, as fast as the viewer reads: a thousand large events are never held for one viewer.
        """
        reason = _unusable(cursor, snapshot)
        if reason is not None:
            yield self._reset(snapshot, reason)
            return
        epoch, upto = snapshot.cursor
        after = cursor.pos
        while after < upto:
            page = await self._store.read_feed(self._topic, after=after, upto=upto, count=_PAGE)
            if not page or page[0].pos != after + 1:
                yield self._reset(snapshot, "trimmed")
                return
            for item in page:
                yield make_change(Cursor(epoch, item.pos), item.event, item.data).frame
            after = page[-1].pos

    async def _live(self, subscription: Subscription, place: _Place) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        ends_at: float | None = None
        while True:
            # From the end of the run, not from the last event: what trickles in after it must not keep the stream open.
            ends_at = (ends_at or clock() + _LINGER_SECONDS) if place.ended else None
            if ends_at is not None and place.doubt is None and clock() >= ends_at:
                yield self._disconnected("ended", reconnect=False)
                return
            linger = None if ends_at is None else ends_at - clock()
            items = await subscription.take(linger if place.doubt is None else _RETRY_SECONDS)
            if not items and place.doubt is not None:
                for frame in await self._settle(place.doubt, place):
                    yield frame
            for item in items:
                for frame in await self._frames_of(item, place):
                    yield frame
                if item == "shutdown":
                    return

    async def _frames_of(self, item: Change | Signal | bytes, place: _Place) -> list[bytes]:
        match item:
            case bytes():
                return [item]
            case Change():
                return await self._pass_on(item, place)
            case "began" | "lost" | "slow":
                return await self._settle(item, place)
            case "degraded":
                return [self._error("degraded", "The event store cannot be reached; events arrive late.")]
            case "recovered":
                back = self._error("recovered", "The event store is back.")
                return [back, *await self._settle(item, place)]
            case "shutdown":
                return [self._disconnected("shutdown", reconnect=True)]
            case _:
                assert_never(item)

    async def _pass_on(self, change: Change, place: _Place) -> list[bytes]:
        """The change, unless the viewer has it; the state when something is missing before it."""
        epoch, pos = place.cursor
        if change.epoch == epoch and change.pos <= pos:
            return []
        first = not epoch and change.pos == 1
        if first or (change.epoch == epoch and change.pos == pos + 1):
            place.cursor = Cursor(change.epoch, change.pos)
            place.ended = place.ended if change.ends is None else change.ends
            return [change.frame]
        return await self._settle("epoch" if epoch and change.epoch != epoch else "lost", place)

    async def _settle(self, doubt: Doubt, place: _Place) -> list[bytes]:
        """Look at the store for what the viewer missed: nothing, events, or the state as it is now.

        When the store does not answer the doubt stays, and `_live` comes back to it.
        """
        try:
            snapshot = await self._hub.snapshot(self._topic)
            frames = await self._frames_after(doubt, snapshot, place.cursor)
        except (RedisError, ValueError):
            told, place.doubt = place.doubt is not None, doubt
            return [] if told else [self._error("degraded", "The event store cannot be reached; events arrive late.")]
        place.doubt = None
        if frames:
            place.cursor, place.ended = snapshot.cursor, has_ended(snapshot.state)
        return frames

    async def _frames_after(self, doubt: Doubt, snapshot: Snapshot, cursor: Cursor) -> list[bytes]:
        match doubt:
            case "began" | "recovered":
                return [frame async for frame in self._beyond(snapshot, cursor)]
            case "slow":
                return [self._reset(snapshot, doubt)]
            case "lost":
                return [] if snapshot.cursor == cursor else [self._reset(snapshot, doubt)]
            case "epoch":
                # The same epoch: the change was an old one that the hub came to only now.
                return [] if snapshot.cursor.epoch == cursor.epoch else [self._reset(snapshot, doubt)]
            case _:
                assert_never(doubt)

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
    def _error(code: ErrorCode, message: str, *, retryable: bool = True) -> bytes:
        error = StreamError(timestamp=now(), code=code, message=message, retryable=retryable)
        return encode_frame("error", encode_data(error))


def _unusable(cursor: Cursor, snapshot: Snapshot) -> ResetReason | None:
    """Why the feed cannot be resumed from the cursor; None when it can."""
    if cursor.pos == 0:
        return None
    if cursor.epoch != snapshot.cursor.epoch:
        return "epoch"
    return "ahead" if cursor.pos > snapshot.cursor.pos else None
