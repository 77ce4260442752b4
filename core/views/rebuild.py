"""A topic's view folded from the log alone, and what it says about the live one. Pure."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from core.log.archive.bases import Base
from core.log.keys import HEARD_BY, Keys, Source, partition_of
from core.views.changes import as_json, compare
from core.views.folds import State, decode_state, evolve, initial
from core.views.project import FOLD_ERRORS, feed_entry
from core.views.stored import FeedEntry, Stored
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, Record, StreamId


def heard_sources(keys: Keys, topic: Topic) -> list[Source]:
    """The source stream partitions whose events the topic's view may hear: a user's, all of them."""
    own = partition_of(topic, keys.partitions)
    partitions = range(keys.partitions) if topic.kind == "user" else [own]
    return [keys.source(source, partition) for partition in partitions for source in HEARD_BY[topic.kind]]


class Fresh:
    """The view of a topic, folded from the log in the order of the stream ids.

    ``pos`` counts the events taken in, ``heard`` has the newest per source, ``oldest`` the oldest per source;
    ``entries`` are the last ``feed_length`` entries of the feed. ``lacks`` says which events known to
    be the topic's could not be read, if any. ``base``: what it was when the beginning of its history was given up.
    """

    def __init__(self, topic: Topic, feed_length: int) -> None:
        self.topic = topic
        self.base: Base | None = None
        self.state: State = initial(topic)
        self.pos = 0
        self.heard: dict[str, StreamId] = {}
        self.oldest: dict[str, StreamId] = {}
        self.entries: deque[FeedEntry] = deque(maxlen=feed_length)
        self.lacks: str | None = None

    @classmethod
    def on(cls, base: Base, feed_length: int, partitions: int) -> "Fresh":
        """The view to be folded on from a base, in a deployment of so many partitions."""
        fresh = cls(base.topic, feed_length)
        fresh.base = base
        fresh.state = decode_state(base.topic.kind, base.state)
        fresh.pos = base.pos
        fresh.oldest = {"base": base.first}
        if partitions == base.partitions:  # else the sources have other events under the same names
            fresh.heard = dict(base.heard)
        if base.latest:
            event, data, stream_id = from_json(base.latest)
            fresh.entries.append(FeedEntry(event, data.encode(), stream_id))
        return fresh

    @property
    def newest(self) -> StreamId:
        """Stream id of the newest event; `BEGINNING` before there is one."""
        known = self.base.heard.values() if self.base is not None else ()
        return max([*self.heard.values(), *known], default=BEGINNING)

    @property
    def first(self) -> StreamId:
        """Stream id of the first event; `BEGINNING` before there is one."""
        return min(self.oldest.values(), default=BEGINNING)

    def take(self, record: Record, made: dict[bool, FeedEntry] | None = None) -> None:
        """Fold one more event; one the fold cannot take is left out, as the projector parks it.

        What the base has taken in is passed over.
        ``made``: the event's feed entries, late or not, as far as another view has made them.
        """
        if self.base is not None and self.base.has(record):
            return
        try:
            state = evolve(self.state, record)
        except FOLD_ERRORS:
            return
        if self.entries.maxlen:
            self.entries.append(_entry(record, made, late=state is self.state))
        self.state = state
        self.pos += 1
        self.heard[record.source] = record.stream_id
        self.oldest.setdefault(record.source, record.stream_id)


def _entry(record: Record, made: dict[bool, FeedEntry] | None, *, late: bool) -> FeedEntry:
    entry = made.get(late) if made is not None else None
    if entry is None:
        entry = feed_entry(record, late=late)
        if made is not None:
            made[late] = entry
    return entry


class FeedEnds(NamedTuple):
    """How many entries a feed has, and the positions of its first and last; 0 when it is empty."""

    length: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Live:
    """A view as it stands, of one moment.

    ``removed``: when a view of the partition was removed for good, empty where none was of late.
    ``stored`` is None when there is a view that cannot be read. ``reached``: per source up to which event the view has
    taken in what is its own. ``settled`` is False while a commit stands whose checkpoint has not moved yet.
    """

    version: str
    generation: int
    removed: str
    stored: Stored | None
    feed: FeedEnds
    reached: Mapping[str, StreamId]
    settled: bool

    @property
    def exists(self) -> bool:
        """Whether the topic has a view."""
        return bool(self.version)


class Difference(NamedTuple):
    """Where the live view is not what the log says; values as JSON, None for what is not there."""

    path: str
    live: Any
    fresh: Any


@dataclass(frozen=True, slots=True)
class LogState:
    """What is known of one source stream partition.

    It is without a hole from ``whole_since`` on: `BEGINNING` when nothing was ever trimmed or lost, else the first
    entry after the last hole. ``newest`` is the newest stream id it ever gave out.
    """

    whole_since: StreamId = BEGINNING
    newest: StreamId = BEGINNING


def encode_latest(entry: FeedEntry | None) -> bytes:
    """The last entry of a feed as a base keeps it; empty where there is none."""
    return b"" if entry is None else to_json([entry.event, entry.data.decode(), entry.stream_id])


def first_event(first: str) -> StreamId:
    """The stream id in a view's ``first``, which may carry the mark of a rebuild behind it."""
    return StreamId.parse(first.partition(" ")[0])


def mark_first(first: StreamId, mark: str) -> str:
    """A view's ``first`` after a rebuild: another ``mark`` makes another epoch, so old cursors get ``reset``."""
    return f"{first} {mark}"


def why_unverifiable(live: Live, fresh: Fresh, log: Mapping[str, LogState]) -> str | None:
    """Why the log cannot prove what the view should be; None when it can.

    ``log``: the sources the topic may hear. The rule errs on the side of leaving views alone:

    - The log has events of the topic, all that are known of can be read, and the view heard of none beyond the log.
    - If none of the sources ever lost an entry, that is enough.
    - Otherwise there must be a readable view, and it must have begun behind every hole: its first event is not older
      than where each of the sources is whole again, is still in the log, and is the oldest of the topic there (a view
      that began anew after it was deleted does not know what came before). And the log has at least as many events as
      the view counts: an event of another source may be older than the first one, and gone.
    """
    if fresh.lacks is not None:
        return fresh.lacks
    for name, state in log.items():
        if live.reached.get(name, BEGINNING) > state.newest:
            return f"its view heard of events that {name} does not have any more"
    if fresh.pos == 0:
        return "no event of it is in the log" if live.exists else None
    holes = {name: state.whole_since for name, state in log.items() if state.whole_since > BEGINNING}
    return _why_incomplete(live, fresh, holes) if holes else None


def _why_incomplete(live: Live, fresh: Fresh, holes: Mapping[str, StreamId]) -> str | None:
    """Why events of the topic may have been in the holes; per source where it is whole again."""
    if live.stored is None or not live.exists:
        return f"{min(holes)} was trimmed, and there is no view that says when the topic began"
    first = first_event(live.stored.first)
    name, since = max(holes.items(), key=lambda hole: hole[1])
    if first < since:
        return f"its first event {first} is older than what {name} has without a hole, which begins at {since}"
    if first not in fresh.oldest.values():
        return "its view began after events that are in the log, so older ones may be gone"
    if fresh.pos < live.stored.pos:
        return f"its view has {live.stored.pos} events, the log {fresh.pos} of them"
    return None


def differences(live: Live, fresh: Fresh) -> list[Difference]:
    """Everything in which the live view is not the fold of the log up to the same position."""
    if not live.exists:
        return [Difference("view", None, "an unexpired view")] if fresh.pos else []
    if live.stored is None:
        return [Difference("view", "cannot be read", "a readable view")]
    stored = live.stored
    found = differences_of_states(stored.state, fresh.state)
    if stored.pos != fresh.pos:
        found.append(Difference("pos", stored.pos, fresh.pos))
    for source, newest in fresh.heard.items():
        if stored.heard.get(source, BEGINNING) < newest:
            heard = stored.heard.get(source)
            found.append(Difference(f"heard.{source}", str(heard) if heard else None, str(newest)))
    feed = live.feed
    if feed.last != stored.pos:
        found.append(Difference("feed.last", feed.last, stored.pos))
    elif feed.length != feed.last - feed.first + 1:
        found.append(Difference("feed.length", feed.length, feed.last - feed.first + 1))
    return found


def differences_of_states(live: State, fresh: State) -> list[Difference]:
    """The fields in which two states of a topic differ."""
    return [Difference(".".join(path), *values) for path, *values in compare(as_json(live), as_json(fresh))]
