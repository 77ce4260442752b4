"""Removing views for good, with all that was told of them."""

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple, cast

from redis.asyncio import Redis

from core.log.keys import Keys, partition_of
from core.log.scan import viewed_topics
from core.runtime.lua import load_script
from core.views.folds import State, render
from core.views.newest import CHANGE_FEED
from core.views.store import CHANGES_LENGTH, ViewStore
from core.views.user import UserState, named
from pipai_contracts.ids import Topic
from pipai_contracts.views import UserView

_PAGE: Final = 500
_NOBODY: Final = "-"
"""Names no topic in a change feed."""


class Removed(NamedTuple):
    """How many views there were, and how many entries of feeds and of change feeds."""

    views: int
    feed_entries: int
    changes: int


class ViewRemover:
    """Removes views of one deployment. Its methods raise `redis.exceptions.RedisError`; doing it again is safe."""

    def __init__(self, redis: Redis, keys: Keys, store: ViewStore) -> None:
        self._redis = redis
        self._keys = keys
        self._store = store
        self._remove = load_script(redis, __file__, CHANGE_FEED, "remove.lua")

    async def owned(self, user: Topic) -> set[str]:
        """The names of workflows and files that are the user's, as views say: their events may be long gone.

        Those whose view says so, and those that the user's view tells of.
        """
        found, page = set[str](), list[Topic]()
        async for topic in viewed_topics(self._redis, self._keys):
            if topic == user or (topic.tenant == user.tenant and topic.kind != "user"):
                page.append(topic)
            if len(page) == _PAGE:
                found |= await self._owned_among(page, user)
                page.clear()
        return found | await self._owned_among(page, user)

    async def _owned_among(self, topics: Sequence[Topic], user: Topic) -> set[str]:
        found = set[str]()
        for topic, stored in (await self._store.load(topics)).items():
            if isinstance(stored.state, UserState):
                found |= named(stored.state)
            elif owner_of(stored.state) == user.id:
                found.add(topic.name)
        return found

    async def remove(self, topics: Collection[Topic]) -> Removed:
        """Remove these views, their feeds, and what change feeds have of them.

        Who watches one is given ``reset``, and what the view is then.
        """
        views = entries = changes = 0
        for topic in topics:
            was, had, _ = await self._remove_one(topic)
            views, entries = views + was, entries + had
        paths = {topic.path.encode() for topic in topics}
        for partition, topic in {partition_of(topic, self._keys.partitions): topic for topic in topics}.items():
            _, _, end = await self._remove_one(topic, told=_NOBODY)
            changes += await self._scrub(partition, paths, end)
        return Removed(views, entries, changes)

    async def _remove_one(self, topic: Topic, *, told: str | None = None) -> tuple[int, int, str]:
        keys, partition = self._keys, partition_of(topic, self._keys.partitions)
        script_keys = [keys.changes(partition), keys.view(topic), keys.feed(topic), keys.removed(partition)]
        answer = await self._remove(keys=script_keys, args=[told or topic.path, CHANGES_LENGTH, int(told is not None)])
        was, had, said = cast("tuple[int, int, bytes]", answer)
        return was, had, said.decode()

    async def _scrub(self, partition: int, paths: set[bytes], end: str) -> int:
        """Take entries about these topics out of a change feed; who has not read them looks again at everything.

        What comes from ``end`` on stays: that is of what came after the removal.
        """
        key, after, count = self._keys.changes(partition), "-", 0
        while page := cast("list[Any]", await self._redis.xrange(key, min=after, max=f"({end}", count=_PAGE)):
            events = [entry_id for entry_id, fields in page if fields.get(b"topic") in paths]
            found = events + [entry_id for entry_id, fields in page if fields.get(b"rebuilt") in paths]
            if found:
                await self._redis.xdel(key, *found)
            count += len(events)
            after = f"({page[-1][0].decode()}"
        return count


def owner_of(state: State) -> str | None:
    """The user whose a workflow or a file is, as far as its view knows."""
    view = render(state)
    return None if isinstance(view, UserView) else view.user_id
