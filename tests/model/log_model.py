"""The log and the views as they stand in Redis, in memory: what each script does, in one step, and what faults undo.

``without`` names a rule that is left out, to see whether the model tests would notice.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final, Literal, NamedTuple

from core.log.checkpoint import NOTHING, Checkpoint
from core.log.keys import Keys
from core.views.checkpoints import Known
from core.views.stored import FeedEntry, Stored, Update, epoch_of, unheard_of
from pipai_contracts.envelope import Envelope, encode_data
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, Record, StreamId

Rule = Literal[
    "idempotency",
    "continuity",
    "heard",
    "version",
    "went back",
    "generation",
    "commit before checkpoint",
    "trim below the checkpoint",
    "tell losses",
    "look again before telling",
    "fold all again",
    "generation before views",
    "checkpoint knows its commit",
    "a version names its fold",
    "retry from what is stored",
]
"""
What the system rests on. idempotency: append knows repeats. continuity: a batch must follow the checkpoint without a
hole. heard: a view skips what it has taken in. version: a commit needs the view it was folded on. went back: commit
and checkpoint refuse a partition that is older than what they follow, a commit also one that lacks the newest
change. generation: a commit needs the generation it was folded under. look again before telling: entries behind a
rival's checkpoint may be trimmed, and are not lost.
fold all again: what a view in memory has heard counts for nothing under another generation, or when one goes on from
the stored checkpoint. generation before views: it is known before they are loaded, else one that has all there is to
fold, and is lost right after, passes for stored. checkpoint knows its commit: it moves under the same generation, over
the same change feed. a version names its fold: a count would be matched by a rival's commit that has other events in
it. retry from what is stored: in memory may be what was folded on a commit that was refused. The rest speak for
themselves.
"""

KEEP: Final = 2
"""Entries a trimmed source keeps."""

KEYS: Final = Keys()


class Change(NamedTuple):
    """An entry of the change feed; no topic: the generation was raised."""

    topic: Topic | None
    epoch: str
    pos: int
    entry: FeedEntry | None


@dataclass
class SourceLog:
    """One source stream with its companions and its consumer group."""

    records: list[Record] = field(default_factory=list[Record])
    offset: int = 0
    seen: dict[tuple[Topic, str], tuple[StreamId, int]] = field(
        default_factory=dict[tuple[Topic, str], tuple[StreamId, int]]
    )
    delivered: StreamId = BEGINNING
    pending: set[StreamId] = field(default_factory=set[StreamId])


@dataclass
class Views:
    """Everything in the slot of the one view partition: Redis loses its latest writes together."""

    views: dict[Topic, Stored] = field(default_factory=dict[Topic, Stored])
    feeds: dict[Topic, list[FeedEntry]] = field(default_factory=dict[Topic, list[FeedEntry]])
    changes: list[Change] = field(default_factory=list[Change])
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict[str, Checkpoint])
    generation: int = 0


class RedisModel:
    """One Redis. Each method is one command or script, so nothing comes between its parts."""

    def __init__(self, without: Rule | None = None) -> None:
        self.without = without
        self.sources = {source.name: SourceLog() for source in KEYS.sources()}
        self.kept = Views()
        self.appended: list[Record] = []
        self.trimmed_unseen: set[tuple[str, StreamId]] = set()
        self._clock = 0
        self._versions = count(1)

    def new_version(self) -> str:
        """A version no commit has had."""
        return str(next(self._versions))

    def append(self, envelope: Envelope) -> tuple[StreamId, int]:
        """What append.lua does: the event's place, the first one for a repeat."""
        source = KEYS.source_of(envelope.event.type, envelope.topic).name
        log = self.sources[source]
        known = log.seen.get((envelope.topic, envelope.event_id))
        if known is not None and self.without != "idempotency":
            return known
        self._clock += 1
        log.offset += 1
        place = StreamId(self._clock, 0), log.offset
        record = Record.of(source, *place, envelope, encode_data(envelope.event))
        log.records.append(record)
        log.seen[envelope.topic, envelope.event_id] = place
        self.appended.append(record)
        return place

    def deliver(self, source: str, count: int) -> list[Record]:
        """What the group gives its one consumer next; it is pending from now on."""
        log = self.sources[source]
        given = [record for record in log.records if record.stream_id > log.delivered][:count]
        for record in given:
            log.delivered = record.stream_id
            log.pending.add(record.stream_id)
        return given

    def acknowledge(self, source: str, stream_ids: Sequence[StreamId]) -> None:
        """XACK."""
        self.sources[source].pending -= set(stream_ids)

    def read(self, source: str, after: StreamId, upto: StreamId | None, count: int) -> list[Record]:
        """XRANGE: at most ``count`` entries after ``after``."""
        found = [record for record in self.sources[source].records if record.stream_id > after]
        return [record for record in found if upto is None or record.stream_id <= upto][:count]

    def load(self, topics: Sequence[Topic]) -> dict[Topic, Stored]:
        """The views as they stand."""
        return {topic: self.kept.views.get(topic, unheard_of(topic)) for topic in topics}

    def commit(
        self, generation: int, updates: Sequence[Update], source: str, since: StreamId, newest: int | None
    ) -> list[bool] | Literal["generation", "went back"]:
        """What commit.lua does."""
        kept = self.kept
        if kept.generation != generation and self.without != "generation":
            return "generation"
        lacks_newest = len(kept.changes) < (newest or 0) and self.without != "went back"
        if lacks_newest or self._is_older(source, since):
            return "went back"
        outcome: list[bool] = []
        for update in updates:
            stands = self.load([update.topic])[update.topic]
            moved = stands.version != update.before.version
            outcome.append(not moved or self.without == "version")
            if outcome[-1]:
                epoch = epoch_of(generation, update.after.first)
                kept.views[update.topic] = update.after
                kept.feeds.setdefault(update.topic, []).extend(update.entries)
                for pos, entry in enumerate(update.entries, start=update.before.pos + 1):
                    kept.changes.append(Change(update.topic, epoch, pos, entry))
        return outcome

    def advance(self, source: str, checkpoint: Checkpoint, since: StreamId, known: Known) -> bool:
        """What advance.lua does; False: it refused, because the partition is another, or went back."""
        if self._is_older(source, since):
            return False
        is_same = known.generation in {None, self.kept.generation} and len(self.kept.changes) >= (known.change or 0)
        if not is_same and self.without != "checkpoint knows its commit":
            return False
        if checkpoint.stream_id > self.checkpoint(source).stream_id:
            self.kept.checkpoints[source] = checkpoint
        return True

    def checkpoint(self, source: str) -> Checkpoint:
        """Up to where the views are committed."""
        return self.kept.checkpoints.get(source, NOTHING)

    def raise_generation(self) -> int:
        """What raise.lua does."""
        self.kept.generation += 1
        self.kept.changes.append(Change(None, "", 0, None))
        return self.kept.generation

    def trim(self, source: str, upto: StreamId) -> None:
        """What trim.lua does."""
        log = self.sources[source]
        excess = log.records[: max(len(log.records) - KEEP, 0)]
        if self.without != "trim below the checkpoint":
            excess = [record for record in excess if record.stream_id <= upto]
        log.records = log.records[len(excess) :]
        self.trimmed_unseen |= {(source, one.stream_id) for one in excess if not self.is_in_views(one)}

    def is_in_views(self, record: Record) -> bool:
        """Whether every view the event belongs to has it."""
        entry = record.envelope.event.type, str(record.stream_id)
        feeds = [self.kept.feeds.get(topic, []) for topic in record.topics]
        return all(entry in {(one.event, one.stream_id) for one in feed} for feed in feeds)

    def cut(self, source: str, count: int) -> None:
        """XTRIM by hand: the oldest entries go, projected or not."""
        log = self.sources[source]
        log.records = log.records[count:]

    def destroy_group(self, source: str) -> None:
        """XGROUP DESTROY; the next reader makes it again from the first event on."""
        log = self.sources[source]
        log.delivered, log.pending = BEGINNING, set()

    def remember(self) -> Views:
        """The views' slot as it is now, for `go_back`."""
        kept = self.kept
        return replace(
            kept,
            views=dict(kept.views),
            feeds={topic: list(feed) for topic, feed in kept.feeds.items()},
            changes=list(kept.changes),
            checkpoints=dict(kept.checkpoints),
        )

    def go_back(self, remembered: Views) -> None:
        """Redis lost the latest writes of the views' slot; the log, in another, has all of its own."""
        self.kept = deepcopy(remembered)

    def _is_older(self, source: str, since: StreamId) -> bool:
        return self.checkpoint(source).stream_id < since and self.without != "went back"
