"""``GET /replay/{kind}/{id}``: the past of a topic as a stream, in the time it took or faster.

Nobody else hears of it: a replay reads the history for its own viewer alone, who may stop and go on with a cursor.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Final, Literal

import anyio
from fastapi import APIRouter, Query, Response
from redis.exceptions import RedisError
from sse_starlette import EventSourceResponse
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from core.log.archive.archive import SlowSearchError
from core.runtime.clock import now
from core.runtime.http import PathId
from core.runtime.logs import get_logger
from core.runtime.problems import ProblemError
from core.views.folds import render
from core.views.moments import At, AtPosition, PastError, ViewAt
from core.views.past import Past, Patience
from pipai_contracts.cursor import START, Cursor
from pipai_contracts.frames import (
    Connected,
    Disconnected,
    DisconnectReason,
    StreamError,
    encode_data,
    encode_frame,
    wire_data,
)
from pipai_contracts.ids import Kind, Topic
from pipai_contracts.upcast import NewerVersionError
from services.api.access import Asking
from services.api.asked import CursorParameter, LastEventId, parse_cursor
from services.api.audience import Audience
from services.api.history import archive_refusals
from services.api.past import parse_moment, past_refusals
from services.api.settings import ApiSettings
from services.api.stream_response import HEADERS, Unanswered
from services.api.viewers import jittered

MOST: Final = 100
"""Replays of a process at a time: each reads the archive for itself."""

_SPEEDS: Final = {"1": 1.0, "4": 4.0, "60": 60.0, "max": None}
_READS_WITHIN: Final = 60.0
"""Seconds a client may read nothing."""

_HEARTBEAT: Final = b": heartbeat\n"
_NEVER: Final = 10**9
_NO_ROOM: Final = "No room for another replay"
_SOON: Final = {"Retry-After": "1"}

log = get_logger()

_Moments = AsyncGenerator[tuple[ViewAt, ViewAt]]

Speed = Annotated[Literal["1", "4", "60", "max"], Query(description="How many times as fast as it was.")]
_WHERE: Final = "an RFC 3339 time, or a position in the order of the log"
Since = Annotated[str | None, Query(alias="from", description=f"The first event: {_WHERE}.")]
Upto = Annotated[str | None, Query(alias="to", description=f"The last event: {_WHERE}; a time is not included.")]


@dataclass(frozen=True, slots=True)
class AskedOfReplay:
    """What part of a topic's past is asked for, and how fast (None: as fast as it is taken)."""

    topic: Topic
    since: At | None
    upto: At | None
    speed: float | None
    cursor: Cursor | None


@dataclass(slots=True)
class _Begun:
    """A replay up to its first event, which is ``next``, and how the topic was ``before`` it."""

    epoch: str
    before: ViewAt
    next: ViewAt | None
    moments: _Moments


class Replays:
    """The replays of one process."""

    def __init__(self, past: Past, audience: Audience, settings: ApiSettings) -> None:
        self._past = past
        self._audience = audience
        self._settings = settings
        self._open = 0
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Tell all of them to come back elsewhere."""
        self._ending.set()

    async def answer(self, asked: AskedOfReplay) -> Response:
        """A stream, or 204 for who comes back and has seen all of it.

        Raises:
            ProblemError: there is no such part (404, 410), the cursor is of something else (400), or it cannot be
                shown now (503).
        """
        if self._ending.is_set():
            gone = "This process is about to stop; another one serves you"
            return Unanswered(ProblemError(503, "draining", _NO_ROOM, gone, headers=_SOON))
        if self._open >= MOST:
            full = f"This process shows {MOST} replays, which is its limit; come back later"
            raise ProblemError(503, "full", _NO_ROOM, full, headers=_SOON)
        until = None if asked.upto is None or isinstance(asked.upto, AtPosition) else asked.upto.milliseconds
        moments = self._past.events(asked.topic, until)
        self._open += 1
        answered = False
        try:
            with past_refusals(), archive_refusals():
                begun = await self._begin(asked, moments)
            answered = begun.next is not None or asked.cursor is None
        finally:
            if not answered:
                await self._close(moments)
        if not answered:
            return Response(status_code=204, headers={"Cache-Control": "no-store"})
        return _ReplayResponse(self._body(asked, begun), self._audience.shutdown, lambda: self._close(moments))

    async def _close(self, moments: _Moments) -> None:
        """Make room for another."""
        self._open -= 1
        await moments.aclose()

    async def _begin(self, asked: AskedOfReplay, moments: _Moments) -> _Begun:
        """Fold up to where the replay begins.

        Raises:
            ProblemError: nobody published to the topic (404), or the cursor is not of this replay (400).
            SlowSearchError: that is too far.
        """
        epoch, last = "", None
        patience = Patience()
        async for before, moment in moments:
            patience.check()
            epoch = epoch or _epoch_of(asked.topic, moment)
            if asked.cursor is not None and asked.cursor.pos and asked.cursor.epoch != epoch:
                detail = "the cursor is not of a replay of this topic; leave it out to begin at the first event"
                raise ProblemError(400, "invalid-cursor", "Not a cursor of this replay", detail)
            if not _is_before(moment, asked):
                return _Begun(epoch, before, None if _is_behind(moment, asked) else moment, moments)
            last = moment
        if last is None:
            detail = f"{asked.topic.name} had no event in that time"
            raise ProblemError(404, "no-such-moment", "There is nothing to be shown", detail)
        return _Begun(epoch, last, None, moments)

    async def _body(self, asked: AskedOfReplay, begun: _Begun) -> AsyncGenerator[bytes]:
        try:
            async for part in self._frames(asked, begun):
                yield part
        except (RedisError, OSError, SlowSearchError, PastError, NewerVersionError) as error:
            log.warning("replay broke off", topic=asked.topic.path, error=str(error))
            what = "The history cannot be read on now; come back with the newest cursor."
            told = StreamError(timestamp=now(), code="degraded", message=what, retryable=True)
            yield encode_frame("error", encode_data(told))

    async def _frames(self, asked: AskedOfReplay, begun: _Begun) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._settings.stream_lifetime
        yield self._connected(asked, begun)
        before, moment, shown = begun.before, begun.next, begun.next
        while moment is not None and not _is_behind(moment, asked):
            async for beat in self._pause(_gap(shown, moment, asked.speed), ends):
                yield beat
            if self._ending.is_set() or loop.time() >= ends:
                yield self._disconnected("draining" if self._ending.is_set() else "lifetime", reconnect=True)
                return
            yield _frame(moment, begun.epoch, late=moment.state is before.state)
            shown, step = moment, await anext(begun.moments, None)
            before, moment = step or (moment, None)
        yield self._disconnected("ended", reconnect=False)

    async def _pause(self, seconds: float, ends: float) -> AsyncGenerator[bytes]:
        """Wait, with heartbeats; not any more once this replay, or all of them, are to end."""
        loop = asyncio.get_running_loop()
        while seconds > 0 and not self._ending.is_set() and loop.time() < ends:
            part = min(seconds, self._settings.heartbeat_interval)
            await pause(part, self._ending)
            seconds -= part
            if seconds > 0:
                yield _HEARTBEAT

    def _connected(self, asked: AskedOfReplay, begun: _Begun) -> bytes:
        cursor = str(Cursor(begun.epoch, begun.before.pos) if begun.before.pos else START)
        resumed = asked.cursor is not None
        connected = Connected(
            timestamp=now(),
            kind=asked.topic.kind,
            id=asked.topic.id,
            cursor=cursor,
            resumed=resumed,
            replay=True,
            view=None if resumed or not begun.before.pos else render(begun.before.state),
            heartbeat=self._settings.heartbeat_interval,
            retry=self._settings.reconnect_interval,
            attempts=self._settings.max_reconnect_attempts,
        )
        retry = self._settings.reconnect_interval
        return encode_frame("connected", encode_data(connected), frame_id=cursor, retry=retry)

    def _disconnected(self, reason: DisconnectReason, *, reconnect: bool) -> bytes:
        farewell = encode_data(Disconnected(timestamp=now(), reason=reason, reconnect=reconnect))
        retry = jittered(self._settings.reconnect_interval) if reconnect else None
        return encode_frame("disconnected", farewell, retry=retry)


class _ReplayResponse(EventSourceResponse):
    """Sends a replay; ``close`` is called at its end, whether any of it was sent or not."""

    def __init__(
        self, body: AsyncGenerator[bytes], shutdown: anyio.Event, close: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(body, headers=HEADERS, ping=_NEVER, shutdown_event=shutdown, send_timeout=_READS_WITHIN)
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. A client that does not read is left alone: it may come back with its cursor."""
        try:
            with suppress(SendTimeoutError):
                await super().__call__(scope, receive, send)
        finally:
            await self._close()


async def pause(seconds: float, ending: asyncio.Event) -> None:
    """Wait so long, or until it ends."""
    try:
        async with asyncio.timeout(seconds):
            await ending.wait()
    except TimeoutError:
        return


def _frame(moment: ViewAt, epoch: str, *, late: bool) -> bytes:
    record = moment.record
    if record is None:
        raise ValueError("no event led to this moment")
    envelope = record.envelope
    data = wire_data(record.data, timestamp=envelope.time, run_id=envelope.run_id, late=late, replay=True)
    return encode_frame(envelope.event.type, data, frame_id=str(Cursor(epoch, moment.pos)))


def _gap(before: ViewAt | None, moment: ViewAt, speed: float | None) -> float:
    """Seconds between two events as they are to be shown."""
    if before is None or before.record is None or moment.record is None or speed is None:
        return 0
    passed = moment.record.stream_id.milliseconds - before.record.stream_id.milliseconds
    return passed / 1000 / speed


def _is_before(moment: ViewAt, asked: AskedOfReplay) -> bool:
    """Whether the event is before the part that is asked for."""
    if asked.cursor is not None and moment.pos <= asked.cursor.pos:
        return True
    if asked.since is None or moment.record is None:
        return False
    if isinstance(asked.since, AtPosition):
        return moment.pos < asked.since.pos
    return moment.record.stream_id.milliseconds < asked.since.milliseconds


def _is_behind(moment: ViewAt, asked: AskedOfReplay) -> bool:
    """Whether the event is behind the part that is asked for; of a time the history is not read on at all."""
    return isinstance(asked.upto, AtPosition) and moment.pos > asked.upto.pos


def _epoch_of(topic: Topic, first: ViewAt) -> str:
    """The name of a replay's numbering: another one than any feed has."""
    begin = "" if first.record is None else str(first.record.stream_id)
    return blake2b(f"replay {topic.path} {begin}".encode(), digest_size=4).hexdigest()


def replay_routes(replays: Replays) -> APIRouter:
    """The endpoint for who wants to see the past again."""
    router = APIRouter(tags=["history"])

    @router.get("/replay/{kind}/{resource_id}", response_class=Response)
    async def replay(  # noqa: PLR0913 - one for each parameter of the query
        *,
        asking: Asking,
        kind: Kind,
        resource_id: PathId,
        since: Since = None,
        to: Upto = None,
        speed: Speed = "1",
        last_event_id: LastEventId = None,
        cursor: CursorParameter = None,
    ) -> Response:
        """A topic's events as they came, as Server-Sent Events marked `replay`; then the stream ends."""
        first = None if since is None else parse_moment(since, "query.from")
        last = None if to is None else parse_moment(to, "query.to")
        place = parse_cursor(last_event_id, cursor)
        return await replays.answer(AskedOfReplay(asking.topic(kind, resource_id), first, last, _SPEEDS[speed], place))

    _ = replay
    return router
