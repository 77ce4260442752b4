"""Folding a batch of events into the views they belong to. Pure: what is loaded and stored is the caller's."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from core.views.folds import State, evolve
from core.views.stored import FeedEntry, Stored, Update
from pipai_contracts.frames import wire_data
from pipai_contracts.ids import Topic
from pipai_contracts.record import Record, StreamId

FOLD_ERRORS = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)
"""What a fold may raise on an event it cannot take: that event is parked, the rest goes on."""


@dataclass(slots=True)
class _Working:
    """A view while a batch is folded into it."""

    before: Stored
    state: State
    heard: dict[str, StreamId]
    first: str
    entries: list[FeedEntry] = field(default_factory=list[FeedEntry])


@dataclass(frozen=True, slots=True)
class Folded:
    """What a batch came to: the views to commit, and the events no view could take."""

    updates: list[Update]
    failed: list[tuple[Record, Exception]]


def topics_in(records: Sequence[Record]) -> list[Topic]:
    """Every topic whose view hears of one of the events, once."""
    return list(dict.fromkeys(topic for record in records for topic in record.topics))


def fold_batch(
    records: Sequence[Record],
    loaded: Mapping[Topic, Stored],
    *,
    version: str,
    only: AbstractSet[Topic] | None = None,
) -> Folded:
    """Fold the events, in their order, into ``loaded``.

    An event that a view has heard of is skipped there. One whose folding raises, or whose view is not in ``loaded``,
    is in no view at all.
    ``version`` names what comes of it; ``only``: leave every other topic alone.
    """
    working: dict[Topic, _Working] = {}
    failed: list[tuple[Record, Exception]] = []
    for record in records:
        try:
            changes = _fold_one(record, loaded, working, only)
        except FOLD_ERRORS as error:
            failed.append((record, error))
            continue
        entry = late_entry = None  # as a rule the first, shared by all topics
        for work, state in changes:
            if state is work.state:
                told = late_entry = late_entry or feed_entry(record, late=True)
            else:
                told = entry = entry or feed_entry(record, late=False)
            work.entries.append(told)
            work.state = state
            work.heard[record.source] = record.stream_id
            if not work.first:
                work.first = told.stream_id
    return Folded([_update(topic, work, version) for topic, work in working.items() if work.entries], failed)


def feed_entry(record: Record, *, late: bool) -> FeedEntry:
    """The event as it stands in a feed; ``late``: it came too late to count there."""
    envelope = record.envelope
    data = wire_data(record.data, timestamp=envelope.time, run_id=envelope.run_id, late=late)
    return FeedEntry(envelope.event.type, data, str(record.stream_id))


def _fold_one(
    record: Record, loaded: Mapping[Topic, Stored], working: dict[Topic, _Working], only: AbstractSet[Topic] | None
) -> list[tuple[_Working, State]]:
    changes: list[tuple[_Working, State]] = []
    for topic in record.topics:
        if only is not None and topic not in only:
            continue
        work = working.get(topic)
        if work is None:
            work = working[topic] = _begin(topic, loaded)
        newest = work.heard.get(record.source)
        if newest is None or record.stream_id > newest:
            changes.append((work, evolve(work.state, record)))
    return changes


def _begin(topic: Topic, loaded: Mapping[Topic, Stored]) -> _Working:
    stored = loaded.get(topic)
    if stored is None:
        raise ValueError(f"the stored view of {topic.path} cannot be read")
    return _Working(stored, stored.state, dict(stored.heard), stored.first)


def _update(topic: Topic, work: _Working, version: str) -> Update:
    before = work.before
    after = Stored(version, before.pos + len(work.entries), work.first, work.heard, work.state)
    return Update(topic, before, after, work.entries)
