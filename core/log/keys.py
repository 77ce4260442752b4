"""Every Redis key of the system, and which partition a topic belongs to.

A key's hash tag is its first ``{…}``: what must be touched by one script shares a tag.
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from pipai_contracts.events import EventType
from pipai_contracts.ids import Kind, Topic

SOURCES: Final = ("workflow:progress", "analysis:progress", "ai:progress", "notifications")
"""The four source streams, without prefix."""

_SOURCE_OF: Final[dict[EventType, str]] = {
    "workflow_progress": "workflow:progress",
    "temporal_status": "workflow:progress",
    "analysis_progress": "analysis:progress",
    "ai_progress": "ai:progress",
    "notification": "notifications",
}

STREAMS_OF: Final[dict[Kind, tuple[str, ...]]] = {
    "workflow": ("workflow:progress", "ai:progress"),
    "file": ("analysis:progress",),
    "user": ("notifications",),
}
"""The source streams that have the events of a topic of this kind."""

HEARD_BY: Final[dict[Kind, tuple[str, ...]]] = {
    "workflow": ("workflow:progress", "ai:progress"),
    "file": ("analysis:progress",),
    "user": SOURCES,
}
"""The source streams whose events a view of this kind may hear."""

GROUP: Final = "projector"
"""Consumer group of the projectors."""

ARCHIVER_GROUP: Final = "archiver"
"""Consumer group of the archiver."""

OUR_GROUPS: Final = frozenset({GROUP.encode(), ARCHIVER_GROUP.encode()})
"""Groups whose needs their checkpoints tell: those of others have to be asked."""


def partition_of(topic: Topic, partitions: int) -> int:
    """The partition of a topic's events and views; the same for a workflow and a file of one id."""
    if partitions == 1:
        return 0
    digest = blake2b(f"{topic.tenant}:{topic.id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % partitions


@dataclass(frozen=True, slots=True)
class Source:
    """One partition of one source stream. ``name`` is unique in a deployment: views keep it."""

    key: str
    name: str
    stream: str
    partition: int
    companion: str

    @property
    def offset(self) -> str:
        """Counter: the offset of the newest event."""
        return f"{self.companion}:offset"

    @property
    def groups(self) -> str:
        """Hash: consumer group of others → its last delivered id, and since when (s) it stands there."""
        return f"{self.companion}:groups"

    @property
    def archived(self) -> str:
        """String: ``<offset> <stream id>`` up to which the archiver has everything; absent without an archive."""
        return f"{self.companion}:archived"

    @property
    def moved(self) -> str:
        """String: the offset up to which a repartition dealt out the log anew; what is missing there is archived."""
        return f"{self.companion}:moved"

    def owner(self, topic: Topic) -> str:
        """Who owns the topic: the first user it was published with."""
        return f"{self.companion}:owner:{topic.path}"

    def seen(self, topic: Topic, event_id: str) -> str:
        """Where the event with this id was appended, for as long as a repeat is recognised.

        Both ids may have colons: without the length two events could share a key, and one would be lost as a repeat.
        """
        return f"{self.companion}:seen:{len(topic.path)}:{topic.path}:{event_id}"

    def note_of(self, key: str) -> tuple[Topic, str | None] | None:
        """Read back what `owner` or `seen` gave: the topic, and the event id `seen` has; None for any other key."""
        kind, _, rest = key.removeprefix(f"{self.companion}:").partition(":")
        try:
            if kind == "owner" and self.owner(Topic.parse(rest)) == key:
                return Topic.parse(rest), None
            length, _, text = rest.partition(":")
            topic, event_id = Topic.parse(text[: int(length)]), text[int(length) + 1 :]
        except ValueError:
            return None
        return (topic, event_id) if kind == "seen" and self.seen(topic, event_id) == key else None


_PARTITIONED: Final = ("view", "feed", "staged-feed", "changes", "checkpoint", "generation", "replid", "removed")
"""What `Keys` names per view partition."""


def log_and_view_keys(prefix: str) -> tuple[list[str], list[str]]:
    """The keys of the log and the views, whatever the number of partitions: whole names, and how others begin."""
    names = [f"{prefix}:{source}" for source in SOURCES]
    starts = [start for source in SOURCES for start in (f"{prefix}:{source}:{{", f"{{{prefix}:{source}}}:")]
    return names, [*starts, *(f"{prefix}:{what}:{{" for what in _PARTITIONED)]


@lru_cache(maxsize=4096)
def _source(prefix: str, partitions: int, source: str, partition: int) -> Source:
    """Kept, because every event asks for its own."""
    bare = f"{prefix}:{source}"
    if partitions == 1:
        return Source(bare, source, source, 0, f"{{{bare}}}")
    key = f"{bare}:{{{partition}}}"
    return Source(key, f"{source}:{partition}", source, partition, key)


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of all keys under one prefix."""

    prefix: str = "pip-ai"
    partitions: int = 1

    def source(self, source: str, partition: int) -> Source:
        """One partition of ``source``. With a single one the key is the bare name of the specification."""
        return _source(self.prefix, self.partitions, source, partition)

    def source_of(self, event_type: EventType, topic: Topic) -> Source:
        """Where events of this type about this topic are appended."""
        return self.source(_SOURCE_OF[event_type], partition_of(topic, self.partitions))

    def sources(self) -> list[Source]:
        """All partitions of all source streams."""
        return [self.source(source, p) for p in range(self.partitions) for source in SOURCES]

    def view(self, topic: Topic) -> str:
        """Hash: the view's state, version, position and high-water ids."""
        return f"{self.views}{partition_of(topic, self.partitions)}}}:{topic.path}"

    @property
    def views(self) -> str:
        """How the key of every view begins."""
        return f"{self.prefix}:view:{{"

    def topic_of(self, key: str) -> Topic | None:
        """Read back what `view` gave; None for a key that is no view of this deployment."""
        try:
            topic = Topic.parse(key.partition("}:")[2])
        except ValueError:
            return None
        return topic if self.view(topic) == key else None

    @property
    def starts(self) -> tuple[str, str]:
        """How every key of the deployment begins, one way or the other."""
        return f"{self.prefix}:", f"{{{self.prefix}:"

    def feed(self, topic: Topic) -> str:
        """Stream: the topic's own ordered history, ids ``<pos>-0``."""
        return f"{self.prefix}:feed:{{{partition_of(topic, self.partitions)}}}:{topic.path}"

    def staged_feed(self, topic: Topic, name: str) -> str:
        """Stream: a feed that is being written to take the place of the topic's; ``name`` is that of the try.

        Two who replace one view must not write into each other's.
        """
        return f"{self.prefix}:staged-feed:{{{partition_of(topic, self.partitions)}}}:{name}:{topic.path}"

    def changes(self, partition: int) -> str:
        """Stream: every feed entry of the partition, ids consecutive; what api processes follow."""
        return f"{self.prefix}:changes:{{{partition}}}"

    def checkpoint(self, partition: int) -> str:
        """Hash: source name → ``<offset> <stream id>`` up to which the partition's views are committed."""
        return f"{self.prefix}:checkpoint:{{{partition}}}"

    def generation(self, partition: int) -> str:
        """Number: raised, to the clock at least, when the partition lost data or went back."""
        return f"{self.prefix}:generation:{{{partition}}}"

    def history(self, partition: int) -> str:
        """String: the replication id of the master that was last seen with the partition's views."""
        return f"{self.prefix}:replid:{{{partition}}}"

    def removed(self, partition: int) -> str:
        """String: when a view of the partition was removed for good: what was folded before is put nowhere."""
        return f"{self.prefix}:removed:{{{partition}}}"

    def dead(self, source: Source) -> str:
        """Stream: the source's dead letters. In the source's slot, so that one script redrives them."""
        return f"{source.companion}:dead"

    def parked(self, source: Source) -> str:
        """Sorted set: stream ids of the source's entries that were ever parked, as long as these can be read again."""
        return f"{source.companion}:parked"

    def redriven(self, source: Source, letter_id: str) -> str:
        """Where a dead letter was appended again, for as long as a repeat of that is recognised."""
        return f"{source.companion}:redriven:{letter_id}"

    def aside(self, source: Source, what: str) -> str:
        """Where a key of the wrong type is kept that stood in the place of ``dead`` or ``parked``."""
        return f"{source.companion}:aside:{what}"

    def request(self, tenant: str, scope: str, key: str) -> str:
        """Digest of the body that came with a request's key, for as long as its events are recognised."""
        return f"{self.prefix}:request:{tenant}:{len(scope)}:{scope}:{key}"

    @property
    def projectors(self) -> str:
        """Sorted set: projector id → until when (milliseconds of Redis TIME) it counts as there."""
        return f"{self.prefix}:projectors"

    def lease(self, partition: int) -> str:
        """String: id of the projector that follows the partition. Shares a slot with `projectors` and every lease."""
        return f"{{{self.projectors}}}:lease:{partition}"

    @property
    def connections(self) -> str:
        """Hash: api process → how many streams it serves, and when it said so."""
        return f"{self.prefix}:connections"

    def inbox(self, process: str) -> str:
        """List: what other api processes ask of the connections of this one, and answer it."""
        return f"{self.prefix}:inbox:{process}"

    @property
    def archiver(self) -> str:
        """String: id of the archiver at work; others stand by."""
        return f"{self.prefix}:archiver"

    @property
    def spooled(self) -> str:
        """Hash: ``<source>@<spool>`` → first stream id of the oldest segment there that is not in the store yet."""
        return f"{self.prefix}:spooled"

    @property
    def watched(self) -> str:
        """String: until when the watcher has told which Temporal workflows closed."""
        return f"{self.prefix}:watched"

    @property
    def layout(self) -> str:
        """String: what every process of the deployment has to agree on, see `core.log.layout`."""
        return f"{self.prefix}:layout"

    @property
    def audit(self) -> str:
        """Stream: what operators did that the log does not say by itself."""
        return f"{self.prefix}:audit"

    @property
    def tombstones(self) -> str:
        """Hash: user topic → who was erased, and up to when, see `core.log.tombstones`."""
        return f"{self.prefix}:tombstones"

    @property
    def erased(self) -> str:
        """Hash: user topic → which tombstone of it the archive has been through with, and what that removed."""
        return f"{self.prefix}:erased"

    @property
    def maintenance(self) -> str:
        """String: which command changes views or partitions just now, and the name of its run."""
        return f"{self.prefix}:maintenance"

    @property
    def sandbox(self) -> str:
        """String: of which slice of which deployment this one is a copy; absent where it is none."""
        return f"{self.prefix}:sandbox"

    def is_permanent(self, key: str) -> bool:
        """Whether a key may live without a TTL: there are few of these, and each is bounded."""
        allowed = {self.audit, self.watched, self.layout, self.spooled, self.sandbox, self.tombstones, self.erased}
        for source in self.sources():
            allowed |= {source.key, source.offset, source.archived, source.moved}
            allowed |= {self.dead(source), self.parked(source)}
        for partition in range(self.partitions):
            allowed |= {self.changes(partition), self.checkpoint(partition), self.generation(partition)}
            allowed.add(self.history(partition))
        return key in allowed
