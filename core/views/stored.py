"""What a view is when it is at rest, and what changes it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from core.views.folds import State, initial
from pipai_contracts.cursor import Cursor
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId


class FeedEntry(NamedTuple):
    """One event of a topic's feed: ``data`` is the JSON viewers get, ``stream_id`` where it stands in the log."""

    event: str
    data: bytes
    stream_id: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A view as it was committed.

    ``version`` names the commit that wrote it, and no other one; ``pos`` counts events; ``first`` is the stream id of
    its first event; ``heard`` the newest stream id per source that it took in, so that an event delivered twice is
    applied once.
    """

    version: str
    pos: int
    first: str
    heard: dict[str, StreamId]
    state: State


@dataclass(frozen=True, slots=True)
class Update:
    """A view to commit: what it was, what it became, and the events between."""

    topic: Topic
    before: Stored
    after: Stored
    entries: Sequence[FeedEntry] = field(default_factory=tuple[FeedEntry, ...])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A view with the cursor that goes on from it; no view: nobody published to the topic."""

    cursor: Cursor
    state: State | None


def unheard_of(topic: Topic) -> Stored:
    """The view of a topic before its first event."""
    return Stored("", 0, "", {}, initial(topic))


def epoch_of(generation: int, first: str) -> str:
    """The name of a feed's numbering: another one after data was lost, or when the feed began anew."""
    return blake2b(f"{generation} {first}".encode(), digest_size=4).hexdigest()
