"""What a topic's viewers are told, made once and shared: events, and what is said beside them."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from pydantic_core import from_json, to_json

from core.runtime.clock import now
from pipai_contracts.cursor import START, Cursor
from pipai_contracts.frames import (
    Disconnected,
    DisconnectReason,
    ErrorCode,
    Position,
    Reset,
    ResetReason,
    StreamError,
    encode_data,
    encode_frame,
)
from pipai_contracts.ids import Topic
from pipai_contracts.vector import topic_id
from pipai_contracts.views import TERMINAL
from services.api.known import Known
from services.api.pieces import Piece
from services.api.traits import Traits, traits_of

UNREADABLE: Final = (ValueError, LookupError, TypeError, AttributeError)
"""What making a message raises of an entry that another hand wrote to a feed, or to the change feed."""

_RUN_EVENTS: Final = frozenset({"workflow_progress", "analysis_progress", "temporal_status"})


class Message:
    """One SSE message of a topic. ``cursor`` is where a viewer stands that was told it; None: where it stood before.

    ``ends``: it ended the topic's run (True), began or went on with one (False), or says nothing of it (None).
    """

    __slots__ = ("_data_at", "_traits", "cursor", "ends", "event", "frame")

    def __init__(self, event: str, data: bytes, cursor: Cursor | None, *, ends: bool | None = None) -> None:
        self.event = event
        self.cursor = cursor
        self.ends = ends
        self.frame = encode_frame(event, data, frame_id=None if cursor is None else str(cursor))
        self._data_at = len(self.frame) - len(data) - 2
        self._traits: Traits | None = None

    @property
    def traits(self) -> Traits:
        """What shaping asks of it; looked up once for all viewers who have their streams shaped."""
        if self._traits is None:
            self._traits = traits_of(self.event, self.data)
        return self._traits

    @property
    def data(self) -> bytes:
        """Its JSON."""
        return self.frame[self._data_at : -2]

    def named(self, topic: Topic, frame_id: str | None = None) -> bytes:
        """Its frame on a connection with many topics; without ``frame_id`` that is ``<topic>@<cursor>``, if any."""
        if frame_id is None and self.cursor is not None:
            frame_id = topic_id(topic, self.cursor)
        return encode_frame(self.event, named_data(topic, self.data), frame_id=frame_id)


class Run:
    """Messages of one topic that follow each other and leave together."""

    __slots__ = ("_named", "_piece", "messages")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self._piece: Piece | None = None
        self._named: Piece | None = None

    @property
    def piece(self) -> Piece:
        """Their bytes for who watches this topic alone and all of it."""
        if self._piece is None:
            self._piece = Piece(b"".join(message.frame for message in self.messages))
        return self._piece

    def named(self, topic: Topic) -> Piece:
        """Their bytes for who watches many topics, each event with the name of its own."""
        if self._named is None:
            self._named = Piece(b"".join(message.named(topic) for message in self.messages))
        return self._named


def named_data(topic: Topic, data: bytes) -> bytes:
    """An event's JSON with the name of its topic before everything else. A batch has it in each of its events."""
    if not data.startswith(b"{"):
        return data
    return b'{"topic":%b%b%b' % (to_json(topic.name), b"" if data == b"{}" else b",", data[1:])


def event_message(cursor: Cursor, event: str, data: bytes) -> Message:
    """The event that stands at ``cursor`` in its feed."""
    return Message(event, data, cursor, ends=_ends(event, data))


def reset_message(known: Known, reason: ResetReason) -> Message:
    """Positions jump to what is known now."""
    data = encode_data(Reset(timestamp=now(), reason=reason, cursor=str(known.cursor)), view=known.view)
    return Message("reset", data, known.cursor)


def position_message(cursor: Cursor) -> Message:
    """Nothing up to here is still to come."""
    return Message("position", encode_data(Position(timestamp=now(), cursor=str(cursor))), cursor)


def batch_message(messages: Sequence[Message], topic: Topic | None = None) -> Message:
    """Several events in one message, whose id is the last one's; with ``topic`` each as on a connection with many."""
    items: list[bytes] = []
    for message in messages:
        cursor = message.cursor or START
        frame_id = str(cursor) if topic is None else topic_id(topic, cursor)
        data = message.data if topic is None else named_data(topic, message.data)
        items.append(b'{"event":"%b","id":%b,"data":%b}' % (message.event.encode(), to_json(frame_id), data))
    return Message("batch", b"[%s]" % b",".join(items), messages[-1].cursor)


def joined_message(messages: Sequence[Message]) -> Message:
    """Events of one AI step that follow each other as one: their texts one after another, else the later's word."""
    fields: dict[str, Any] = {}
    texts: list[str] = []
    for message in messages:
        told = cast("dict[str, Any]", from_json(message.data))
        texts.append(told.pop("delta", None) or "")
        fields.update(told)
    if text := "".join(texts):
        fields["delta"] = text
    return Message(messages[-1].event, to_json(fields), messages[-1].cursor)


def error_message(code: ErrorCode, message: str, *, retryable: bool = True) -> Message:
    """Something is wrong, or right again, with the stream."""
    error = StreamError(timestamp=now(), code=code, message=message, retryable=retryable)
    return Message("error", encode_data(error), None)


def degraded_message() -> Message:
    """The store is away while the viewer stays."""
    return error_message("degraded", "The event store cannot be reached; events arrive late.")


def farewell(reason: DisconnectReason, *, reconnect: bool, retry: int | None = None) -> bytes:
    """The frame before the end of a stream; ``retry``: milliseconds until the viewer is to come back."""
    data = encode_data(Disconnected(timestamp=now(), reason=reason, reconnect=reconnect))
    return encode_frame("disconnected", data, retry=retry)


def path_of(fields: dict[bytes, bytes]) -> bytes | None:
    """The path of the topic an entry of the change feed is about; None for one that raises the generation."""
    return fields.get(b"topic", fields.get(b"rebuilt"))


def is_rebuilt(fields: dict[bytes, bytes]) -> bool:
    """Whether the entry says that the topic's view was replaced as a whole: its positions begin anew."""
    return b"rebuilt" in fields


def message_of(fields: dict[bytes, bytes]) -> Message:
    """The event in an entry of the change feed."""
    cursor = Cursor(fields[b"epoch"].decode(), int(fields[b"pos"]))
    return event_message(cursor, fields[b"event"].decode(), fields[b"data"])


def total_bytes(messages: Iterable[Message]) -> int:
    """Bytes of their frames together."""
    return sum(len(message.frame) for message in messages)


def _ends(event: str, data: bytes) -> bool | None:
    if event not in _RUN_EVENTS:
        return None
    fields = cast("dict[str, Any]", from_json(data))
    if fields.get("late"):
        return None
    if event == "temporal_status":
        return True if fields["status"] in TERMINAL else None
    return bool(fields["progress"] >= 100 or fields.get("canceled") or fields.get("error") is not None)  # noqa: PLR2004 - percent
