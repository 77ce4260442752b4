"""Which events of the history somebody asks for."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from core.log.entry import Entry
from core.log.keys import SOURCES, STREAMS_OF
from pipai_contracts.ids import Kind, Topic
from pipai_contracts.record import StreamId


class Place(NamedTuple):
    """Where an event stands among those of all streams: by stream id, then by the names of stream and topic.

    Whatever the number of partitions is: two of them may give the same stream id, but never to events of one topic.
    """

    stream_id: StreamId
    stream: str
    topic: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an event must have, None being anything.

    ``kind`` and ``id`` are its topic's. ``user_id``: the owner of its topic, or the user it is about.
    ``since`` and ``until`` (excluded): when it was appended, in milliseconds.
    """

    tenant: str
    kind: Kind | None = None
    id: str | None = None
    user_id: str | None = None
    type: str | None = None
    correlation_id: str | None = None
    since: int | None = None
    until: int | None = None

    @classmethod
    def of(cls, topic: Topic) -> "Wanted":
        """What the events of a topic's view have in common."""
        if topic.kind == "user":
            return cls(topic.tenant, user_id=topic.id)
        return cls(topic.tenant, topic.kind, topic.id)

    @property
    def streams(self) -> Sequence[str]:
        """The source streams that may have some of them."""
        return SOURCES if self.kind is None else STREAMS_OF[self.kind]

    def told(self) -> dict[str, str | int]:
        """What is asked for, in words for people and logs."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def takes(self, entry: Entry) -> bool:
        """Whether this entry is one of them, by its fields as they stand in the log."""
        fields, milliseconds = entry.fields, entry.stream_id.milliseconds
        topic = _text(fields, b"topic")
        return (
            _text(fields, b"tenant") == self.tenant
            and (self.kind is None or topic.startswith(f"{self.kind}:"))
            and (self.id is None or topic.partition(":")[2] == self.id)
            and (self.user_id is None or self.user_id == _text(fields, b"user") or topic == f"user:{self.user_id}")
            and self.type in {None, _text(fields, b"type")}
            and self.correlation_id in {None, _text(fields, b"correlation")}
            and (self.since is None or milliseconds >= self.since)
            and (self.until is None or milliseconds < self.until)
        )


def _text(fields: dict[bytes, bytes], name: bytes) -> str:
    return fields.get(name, b"").decode(errors="replace")
