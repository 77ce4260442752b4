"""Server-Sent Events: what the control events carry, and how a frame is written.

Progress events have the names and data of `pipai_contracts.events`, with what `wire_data` adds.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic_core import to_json

from pipai_contracts.events import EventType, Status
from pipai_contracts.health import StreamHealth
from pipai_contracts.ids import Kind
from pipai_contracts.times import Timestamp
from pipai_contracts.views import AnyView

ResetReason = Literal["epoch", "trimmed", "ahead", "slow", "lost"]
"""Why positions jump: the cursor is of another epoch; the feed no longer reaches back to it; it is ahead of
the feed; the viewer did not read; events were lost."""

ErrorCode = Literal["degraded", "recovered", "internal"]
"""Redis is away; it is back; the topic's state cannot be read."""

DisconnectReason = Literal["ended", "lifetime", "draining", "shutdown"]
"""The run is over; the connection has lived long enough; the process drains; it ends at once."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    timestamp: Timestamp


_OnlyIfSet: Final = Field(exclude_if=lambda value: value is None)
Milliseconds = Annotated[int, Field(ge=0, le=60_000)]


class Shaping(BaseModel):
    """What the viewer asked to have changed about its stream; empty when it gets every event as it is.

    ``throttle_ms``: of progress only the latest, this often. ``batch_ms``: events of so long together in one message.
    ``types``: events of no other type.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    throttle_ms: Annotated[Milliseconds | None, _OnlyIfSet] = None
    batch_ms: Annotated[Milliseconds | None, _OnlyIfSet] = None
    types: Annotated[tuple[EventType, ...] | None, _OnlyIfSet] = None


class Connected(_Data):
    """First event of a stream: ``heartbeat`` in seconds, ``retry`` in milliseconds, ``attempts`` to make.

    ``resumed``: the viewer came with a cursor, and the stream goes on after it with the events missed since. There is
    no view then, nor when the viewer asked to begin at an event.
    ``stale``: Redis is away, and the view is the newest this process knows.
    ``replay``: this is the past, shown once more; its cursors are of this replay alone.
    """

    kind: Kind
    id: str
    cursor: str
    resumed: bool
    stale: bool | None = None
    replay: bool | None = None
    view: AnyView | None = None
    heartbeat: int
    retry: int
    attempts: int
    shaping: Shaping = Shaping()


class ManyConnected(_Data):
    """First event of a connection that watches many topics; `Joined` follows for each of them.

    ``connection_id`` names it to ``POST /stream/connections/{connection_id}/topics``.
    """

    connection_id: str
    topics: tuple[str, ...]
    heartbeat: int
    retry: int
    attempts: int
    shaping: Shaping = Shaping()


class Joined(_Data):
    """A connection of many topics watches this one from here on; the fields are those of `Connected`."""

    topic: str
    cursor: str
    resumed: bool
    stale: bool | None = None
    view: AnyView | None = None


class Left(_Data):
    """A connection of many topics does not watch this one any more."""

    topic: str


class Reset(_Data):
    """Positions jump here: forget what was seen and go on from ``view``."""

    reason: ResetReason
    cursor: str
    view: AnyView | None = None


class Position(_Data):
    """Nothing up to ``cursor``, which is this message's id too, is still to come: the rest was filtered out."""

    cursor: str


class BatchedEvent(BaseModel):
    """One of the events of a batch, with the name, id and data it would have had as a message of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: EventType
    id: str
    data: dict[str, Any]


class Batch(RootModel[tuple[BatchedEvent, ...]]):
    """Several events in one message, in their order; its id is that of the last."""

    model_config = ConfigDict(frozen=True)


class StreamError(_Data):
    """Something is wrong with the stream, not with the connection; ``retryable``: it may heal by itself."""

    code: ErrorCode
    message: str
    retryable: bool


class Disconnected(_Data):
    """Last event of a stream; ``reconnect`` says whether to come back."""

    reason: DisconnectReason
    reconnect: bool


class SystemConnected(_Data):
    """First event of the system's stream: ``heartbeat`` in seconds, ``retry`` in milliseconds."""

    heartbeat: int
    retry: int
    attempts: int


class SystemStatus(_Data):
    """How the deployment is, every few seconds on ``GET /stream/system``.

    ``health`` is what ``GET /stream/health`` says. The rest is of the process that serves the stream: its open streams,
    events per second since the last time (read from the change feed, and delivered), and ``delivery_seconds`` from
    append to hand-over of the latest.
    """

    health: StreamHealth
    streams: int
    events_per_second: float
    deliveries_per_second: float
    delivery_seconds: float | None = None


class TemporalAnswer(_Data):
    """What Temporal says of the workflow right now. Not part of the feed, so it has no id."""

    workflow_id: str
    status: Status
    run_id: str | None = None
    started: Timestamp | None = None
    ended: Timestamp | None = None
    message: str | None = None


def encode_data(data: _Data, view: bytes | None = None) -> bytes:
    """JSON of a control event's data, fields nobody set left out, ``view`` kept even when null.

    ``view`` is the JSON of the event's view, where that is at hand as such.
    """
    fields = dict(data)
    kept = fields.pop("view", None)
    encoded = to_json({name: value for name, value in fields.items() if value is not None})
    if "view" not in type(data).model_fields:
        return encoded
    return b'%s,"view":%s}' % (encoded[:-1], view or to_json(kept))


def wire_data(data: bytes, *, timestamp: str, run_id: str | None, late: bool = False, replay: bool = False) -> bytes:
    """The ``data:`` of an event: its JSON with timestamp, run id and, when its run had ended before, lateness.

    The JSON is not parsed and written again, so metadata and results arrive as they were sent.
    """
    added = b'"timestamp":"%s"' % timestamp.encode()
    if run_id is not None:
        added = b'"run_id":%s,%s' % (to_json(run_id), added)
    if late:
        added += b',"late":true'
    if replay:
        added += b',"replay":true'
    return b"%s,%s}" % (data[:-1], added)


def encode_frame(event: str, data: bytes, frame_id: str | None = None, retry: int | None = None) -> bytes:
    r"""The bytes of one SSE message.

    ``data`` is JSON on one line: JSON has no raw line ends, so nothing in it can begin another field.

    Raises:
        ValueError: ``event`` or ``frame_id`` has a character that would break out of its line.
    """
    head = f"event: {event}"
    if frame_id is not None:
        head = f"id: {frame_id}\n{head}"
    if retry is not None:
        head = f"retry: {retry}\n{head}"
    if any(character in event or character in (frame_id or "") for character in "\r\n\0"):
        raise ValueError("an SSE field has a line end or NUL in it")
    return b"%s\ndata: %s\n\n" % (head.encode(), data)
