"""A projector in memory: the steps of `services.projector`, with a breath before each that reaches Redis.

Each breath is a ``yield``: there another projector may act, or this one may crash.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Final

from core.log.checkpoint import NOTHING, Checkpoint
from core.views.checkpoints import Known
from core.views.project import fold_batch, topics_in
from core.views.stored import Stored, Update
from pipai_contracts.ids import Topic
from pipai_contracts.record import Record, StreamId
from tests.model.log_model import RedisModel

Steps = Generator[None]

BATCH: Final = 3


class WentBackError(Exception):
    """The views are older than what was to be committed."""


class ProjectorModel:
    """What a projector remembers, and how it goes on. A crash forgets all of it."""

    def __init__(self, redis: RedisModel) -> None:
        self._redis = redis
        self._checkpoints: dict[str, Checkpoint] = {}
        self._views: dict[Topic, Stored] = {}
        self._generation: int | None = None
        self._newest: int | None = None
        self._went_back = False
        self.lost = 0

    @property
    def has_views(self) -> bool:
        """Whether it has views in memory."""
        return bool(self._views)

    def take(self, source: str, delivered: Sequence[Record]) -> Steps:
        """Project what the group delivered, and what is missing before it; then acknowledge."""
        yield
        checkpoint = self._load_checkpoint(source)
        fresh = [record for record in delivered if record.stream_id > checkpoint.stream_id]
        hole = False
        if fresh:
            hole = not (yield from self._project_delivered(source, checkpoint, fresh))
            if hole:
                yield from self._reload_checkpoint(source)
                yield from self._read_on(source, fresh[-1].stream_id)
        yield
        self._redis.acknowledge(source, [record.stream_id for record in delivered])
        if hole:
            yield from self.clear_pending(source)

    def take_ahead(self, source: str, first: Sequence[Record], second: Sequence[Record]) -> Steps:
        """As `take` for both, the second folded on what the first came to before that is committed."""
        yield
        checkpoint = self._load_checkpoint(source)
        ahead = [*first, *second]
        follows = all(record.offset == checkpoint.offset + place for place, record in enumerate(ahead, start=1))
        if not follows or not first or not second:
            yield from self.take(source, ahead)
            return
        folded: list[list[Update]] = []
        for records in (first, second):
            yield
            yield from self._learn_generation()
            folded.append(self._fold_ahead(records))
        for records, updates in zip((first, second), folded, strict=True):
            try:
                yield from self._project(source, records, updates)
            except WentBackError:  # what was folded on it goes with it
                self._views.clear()
                return
            yield
            self._redis.acknowledge(source, [record.stream_id for record in records])

    def _fold_ahead(self, records: Sequence[Record]) -> list[Update]:
        """Fold, and have what comes next folded on that: it is in memory, and not in Redis."""
        topics = set(topics_in(records))
        self._views.update(self._redis.load([topic for topic in topics if topic not in self._views]))
        updates = self._fold(records, {topic: self._heard(self._views[topic]) for topic in topics}, topics)
        self._views.update({update.topic: update.after for update in updates})
        return updates

    def catch_up(self, source: str) -> Steps:
        """Project what lies beyond the checkpoint, and clear what is pending and in the views."""
        yield from self._reload_checkpoint(source)
        yield from self._read_on(source, None)
        yield from self.clear_pending(source)

    def clear_pending(self, source: str) -> Steps:
        """Acknowledge what was given out once and is in the views by now."""
        yield
        checkpoint = self._load_checkpoint(source)
        pending = self._redis.sources[source].pending
        self._redis.acknowledge(source, [one for one in pending if one <= checkpoint.stream_id])

    def _project_delivered(
        self, source: str, checkpoint: Checkpoint, fresh: Sequence[Record]
    ) -> Generator[None, None, bool]:
        follows = all(record.offset == checkpoint.offset + place for place, record in enumerate(fresh, start=1))
        if not follows and self._redis.without != "continuity":
            return False
        try:
            yield from self._project(source, fresh)
        except WentBackError:
            return False
        return True

    def _read_on(self, source: str, upto: StreamId | None) -> Steps:
        while True:
            yield
            checkpoint = self._load_checkpoint(source)
            records = self._redis.read(source, checkpoint.stream_id, upto, BATCH)
            if not records:
                return
            lost = records[-1].offset - checkpoint.offset - len(records)
            if lost and self._redis.without != "look again before telling":
                yield from self._reload_checkpoint(source)
                if self._load_checkpoint(source) != checkpoint:  # a rival took in what is gone, and it was trimmed
                    continue
            if lost:
                yield from self._note_loss(lost)
            yield from self._project(source, records)

    def _reload_checkpoint(self, source: str) -> Steps:
        yield
        if self._redis.without != "fold all again":
            self._views.clear()
        known, stored = self._checkpoints.get(source, NOTHING), self._redis.checkpoint(source)
        if self._went_back or stored.stream_id < known.stream_id:
            yield from self._begin_generation()
        self._checkpoints[source] = stored
        self._went_back = False

    def _note_loss(self, lost: int) -> Steps:
        if self._redis.without != "tell losses":
            self.lost += lost
            yield from self._begin_generation()

    def _begin_generation(self) -> Steps:
        self._views.clear()
        yield
        self._generation = self._redis.raise_generation()
        self._newest = None

    def _project(self, source: str, records: Sequence[Record], folded: Sequence[Update] | None = None) -> Steps:
        since = self._load_checkpoint(source)
        checkpoint = Checkpoint(records[-1].offset, records[-1].stream_id)
        commit = self._fold_and_commit(source, records, since.stream_id, folded)
        steps = [commit, self._advance(source, checkpoint, since)]
        if self._redis.without == "commit before checkpoint":
            steps.reverse()
        for step in steps:
            yield from step
        self._checkpoints[source] = checkpoint
        yield
        self._redis.trim(source, min(checkpoint.stream_id, self._redis.checkpoint(source).stream_id))

    def _advance(self, source: str, checkpoint: Checkpoint, since: Checkpoint) -> Steps:
        yield
        if not self._redis.advance(source, checkpoint, since.stream_id, Known(self._generation, self._newest)):
            self._went_back = self._generation == self._redis.kept.generation
            self._generation = None
            raise WentBackError

    def _fold_and_commit(
        self, source: str, records: Sequence[Record], since: StreamId, folded: Sequence[Update] | None
    ) -> Steps:
        """``folded``: what the records came to when they were folded ahead."""
        open_topics: set[Topic] = set(topics_in(records))
        while open_topics:
            yield
            yield from self._learn_generation()
            if folded is None:
                missing = [topic for topic in open_topics if topic not in self._views]
                self._views.update(self._redis.load(missing))
                loaded = {topic: self._heard(self._views[topic]) for topic in open_topics}
                updates: Sequence[Update] = self._fold(records, loaded, open_topics)
            else:
                updates, folded = folded, None
            open_topics = set[Topic]()
            generation = self._generation
            for update in updates:  # as if one script call took one view: a crash may come between two
                yield
                open_topics |= self._commit(update, source, since)
            is_another = generation is not None and self._generation != generation
            if is_another and self._redis.without != "fold all again":
                # A view that had heard of everything was not looked at, and may have gone back too.
                open_topics = set(topics_in(records))

    def _learn_generation(self) -> Steps:
        """Before the views: what they have heard may be lost right after."""
        if self._generation is None and self._redis.without != "generation before views":
            self._generation = self._redis.kept.generation
            yield

    def _fold(self, records: Sequence[Record], loaded: dict[Topic, Stored], only: set[Topic]) -> list[Update]:
        """The views after the events, under a version that no other commit ever has."""
        updates = fold_batch(records, loaded, version=self._redis.new_version(), only=only).updates
        if self._redis.without != "a version names its fold":
            return updates
        return [replace(one, after=replace(one.after, version=f"+{one.before.version}")) for one in updates]

    def _heard(self, stored: Stored) -> Stored:
        return replace(stored, heard={}) if self._redis.without == "heard" else stored

    def _commit(self, update: Update, source: str, since: StreamId) -> set[Topic]:
        """Commit a view; returns its topic when it is to be folded again."""
        if self._generation is None:
            self._generation = self._redis.kept.generation
        outcome = self._redis.commit(self._generation, [update], source, since, self._newest)
        if outcome == "went back":
            self._went_back = True
            raise WentBackError
        if outcome == [True]:
            self._newest = len(self._redis.kept.changes)
            self._views[update.topic] = update.after
            return set()
        if outcome == "generation":
            self._generation = self._newest = None
            self._views.clear()
        if self._redis.without != "retry from what is stored":
            self._views.pop(update.topic, None)
        return {update.topic}

    def _load_checkpoint(self, source: str) -> Checkpoint:
        if source not in self._checkpoints:
            self._checkpoints[source] = self._redis.checkpoint(source)
        return self._checkpoints[source]
