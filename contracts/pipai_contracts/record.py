"""An event as it stands in the log, and the position that says where."""

from typing import Final, NamedTuple

from pipai_contracts.envelope import Envelope
from pipai_contracts.ids import Topic
from pipai_contracts.times import format_millis

_MAX: Final = 2**64 - 1
"""Both parts of a stream id are unsigned 64-bit numbers."""


class StreamId(NamedTuple):
    """A Redis stream id. Compares as Redis does: what comes after what."""

    milliseconds: int
    sequence: int

    def __str__(self) -> str:
        """The form Redis reads."""
        return f"{self.milliseconds}-{self.sequence}"

    @classmethod
    def parse(cls, text: str | bytes) -> "StreamId":
        """Read the form Redis writes."""
        left, _, right = (text.decode() if isinstance(text, bytes) else text).partition("-")
        return cls(int(left), int(right or 0))

    @property
    def next(self) -> "StreamId":
        """The smallest id after this one."""
        if self.sequence == _MAX:
            return StreamId(self.milliseconds + 1, 0)
        return StreamId(self.milliseconds, self.sequence + 1)

    @property
    def time(self) -> str:
        """When Redis appended the entry."""
        return format_millis(self.milliseconds)


BEGINNING = StreamId(0, 0)


class Record(NamedTuple):
    """An event of the log, made by `of`.

    ``source`` names the source stream partition, ``offset`` counts 1, 2, 3 … in it. ``envelope.user_id`` is the
    topic's owner, filled in at append; ``data`` the event's JSON on one line. ``topics`` are those whose views hear of
    it: its own, and its owner's.
    """

    source: str
    stream_id: StreamId
    offset: int
    envelope: Envelope
    data: bytes
    topics: tuple[Topic, ...]

    @classmethod
    def of(cls, source: str, stream_id: StreamId, offset: int, envelope: Envelope, data: bytes) -> "Record":
        """The event with the topics that hear of it."""
        own, user_id = envelope.topic, envelope.user_id
        topics = (own,) if user_id is None or own.kind == "user" else (own, Topic(own.tenant, "user", user_id))
        return cls(source, stream_id, offset, envelope, data, topics)
