"""``pipai-admin verify --against``: the views of a sandbox beside the deployment's own."""

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from core.log.archive.rows import entry_of
from core.log.entry import decode
from core.log.errors import UndecodableEntryError
from core.log.history import History
from core.log.keys import Keys, partition_of
from core.log.reader import topics_named
from core.log.scan import viewed_topics
from core.views.rebuild import Difference, Fresh, differences_of_states
from core.views.store import ViewStore
from core.views.stored import Stored
from pipai_contracts.ids import Topic
from pipai_contracts.upcast import NewerVersionError
from services.admin.command import Deployment, RefusedError
from services.admin.foreign import ForeignKeys
from services.admin.sandbox import Sandbox, Slice
from services.admin.selection import Selection

_TOGETHER: Final = 1000
"""Topics compared together: for each such group the slice is read once."""


class Compared(NamedTuple):
    """A topic's view in the deployment beside that of the sandbox; ``unverifiable`` says why one could not be had.

    A difference's ``live`` is the deployment's, its ``fresh`` the sandbox's.
    """

    topic: Topic
    differences: list[Difference]
    unverifiable: str | None = None


async def compare_with(deployment: Deployment, name: str, selection: Selection) -> AsyncIterator[Compared]:
    """Every selected topic that has a view in the sandbox.

    The deployment's side is its live view where that has heard the same events, else what this build makes of the same
    slice: a live view may have begun before it, or gone on since.

    Raises:
        RefusedError: there is no such sandbox, it is not through with its events, or the archive cannot be read.
    """
    sandbox = Sandbox(deployment, name)
    slice_ = await sandbox.load()
    if slice_.of != deployment.keys.prefix or slice_.partitions != deployment.keys.partitions:
        raise RefusedError(
            f"{name} is a slice of {slice_.of} with STREAM_PARTITIONS={slice_.partitions}, which this deployment is not"
        )
    projected = await sandbox.projected(slice_)
    if projected < (slice_.events or 0):
        raise RefusedError(f"{name} has projected {projected} of {slice_.events} events: wait, or replay it anew")
    keys = sandbox.keys(slice_.partitions)
    viewed = viewed_topics(deployment.redis, keys, foreign=ForeignKeys().note)
    topics = {topic async for topic in viewed if selection.wants(topic)}
    if selection.topic is not None and not topics:
        raise RefusedError(f"no such topic: {selection.topic.path} has no view in {name}")
    ordered = sorted(topics)
    for start in range(0, len(ordered), _TOGETHER):
        for compared in await _compare(deployment, keys, slice_, ordered[start : start + _TOGETHER]):
            yield compared


async def _compare(deployment: Deployment, sandbox: Keys, slice_: Slice, topics: Sequence[Topic]) -> list[Compared]:
    copies = await _store(deployment, sandbox).load(topics)
    live = await _store(deployment, deployment.keys).load(topics)
    apart = [topic for topic in copies if not _heard_the_same(live.get(topic), copies[topic])]
    fresh = await _fold(deployment.keys, deployment.history, slice_, apart)
    return [_compared(topic, copies.get(topic), live.get(topic), fresh.get(topic)) for topic in topics]


def _store(deployment: Deployment, keys: Keys) -> ViewStore:
    settings = deployment.settings
    return ViewStore(deployment.redis, keys, feed_length=settings.stream_max_entries, ttl=settings.view_ttl)


def _heard_the_same(live: Stored | None, copy: Stored) -> bool:
    return live is not None and (live.pos, live.heard) == (copy.pos, copy.heard)


def _compared(topic: Topic, copy: Stored | None, live: Stored | None, fresh: Fresh | None) -> Compared:
    if copy is None:
        return Compared(topic, [], "this build cannot read its view in the sandbox")
    if fresh is not None and fresh.lacks is not None:
        return Compared(topic, [], fresh.lacks)
    ours = fresh or live
    if ours is None:
        raise AssertionError("it has heard the same, or was folded")
    found = differences_of_states(ours.state, copy.state)
    if ours.pos != copy.pos:
        found.append(Difference("pos", ours.pos, copy.pos))
    return Compared(topic, found)


async def _fold(keys: Keys, history: History, slice_: Slice, topics: Sequence[Topic]) -> dict[Topic, Fresh]:
    """What this build makes of the slice's events."""
    views = {topic: Fresh(topic, 0) for topic in topics}
    if not views:
        return views
    async for row in history.find_all(slice_.wanted):
        if row.parked or row.v is None:
            continue
        entry = entry_of(row)
        try:
            topic = Topic.parse(f"{row.tenant}:{row.topic}")
            record = decode(keys.source(row.stream, partition_of(topic, keys.partitions)), entry)
        except NewerVersionError as error:
            for unread in views.keys() & set(topics_named(entry)):
                views[unread].lacks = f"an event of it was written by a newer build than this one: {error}"
        except (ValueError, UndecodableEntryError):
            continue
        else:
            for heard_by in views.keys() & set(record.topics):
                views[heard_by].take(record)
    return views
