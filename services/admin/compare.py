"""A live view beside the fold of its log, at equal positions while traffic flows."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from core.log.keys import Keys
from core.log.scan import keys_beginning
from core.runtime.redis import ask_holder
from core.runtime.settings import Settings
from core.views.rebuild import Difference, Fresh, Live, differences, why_unverifiable
from core.views.replace import ViewReplacer
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING
from services.admin.command import RefusedError
from services.admin.foreign import ForeignKeys
from services.admin.index import LogIndex
from services.admin.selection import Selection

MISFIT: Final = "one of its keys is of the wrong type: the next event of it has that made anew"
"""Why a view cannot be looked at."""

_SETTLE_TRIES: Final = 20
"""Looks at a view whose latest commit has no checkpoint yet, until it is taken as it is: its projector is dead."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A topic's view beside its log.

    ``unverifiable`` says why the log cannot prove anything; ``expired``: there is no view, and the log's last event of
    it is older than views live.
    """

    topic: Topic
    live: Live
    fresh: Fresh
    unverifiable: str | None
    differences: list[Difference]
    expired: bool


class Comparer:
    """Compares views of one deployment with its log."""

    def __init__(self, redis: Redis, keys: Keys, settings: Settings, selection: Selection) -> None:
        self._redis = redis
        self._keys = keys
        self._ttl = settings.view_ttl
        self._selection = selection
        length = settings.stream_max_entries
        self._index = LogIndex(redis, keys, selection.wants, feed_length=length)
        self.replacer = ViewReplacer(redis, keys, feed_length=length, ttl=settings.view_ttl)

    async def topics(self) -> AsyncIterator[Topic]:
        """The selected topics: those in the log, then those that only have a view.

        Raises:
            RefusedError: the one that was selected is neither.
        """
        await self._index.read_projected()
        logged = set(self._index.topics)
        only = self._selection.topic
        if only is not None:
            if only not in logged and not await self._redis.exists(self._keys.view(only)):
                raise RefusedError(f"no such topic: {only.path} has no view, and no event that was projected")
            yield only
            return
        for topic in sorted(logged):
            yield topic
        async for topic in viewed_topics(self._redis, self._keys, ForeignKeys()):
            if self._selection.wants(topic) and topic not in logged:
                yield topic

    async def compare(self, topic: Topic) -> Comparison:
        """The topic's view beside the fold of its log up to the same position.

        Raises:
            MovingViewError: the view is committed too often to be caught.
            MisfitViewError: there is something else in its place.
            redis.exceptions.RedisError: Redis did not answer.
        """
        live = await self.replacer.look(topic)
        for attempt in range(_SETTLE_TRIES):
            if live.settled:
                break
            await asyncio.sleep(random.uniform(0, 0.005 * (attempt + 1)))  # noqa: S311 - jitter
            live = await self.replacer.look(topic)
        await self._index.read_up_to(live.reached)
        fresh = await self._index.fold(topic, live.reached)
        reason = why_unverifiable(live, fresh, self._index.log_states(topic))
        found = [] if reason is not None else differences(live, fresh)
        return Comparison(topic, live, fresh, reason, found, await self._is_expired(live, fresh))

    async def _is_expired(self, live: Live, fresh: Fresh) -> bool:
        if live.exists or not fresh.pos:
            return False
        seconds, _ = await ask_holder(self._redis, self._keys.layout, "TIME")
        return max(fresh.heard.values(), default=BEGINNING).milliseconds / 1000 + self._ttl < seconds


async def viewed_topics(redis: Redis, keys: Keys, foreign: ForeignKeys) -> AsyncIterator[Topic]:
    """The topics that have a view; while views come and go, one may be named twice or not at all."""
    async for key in keys_beginning(redis, keys.views, foreign=foreign.note):
        topic = keys.topic_of(key)
        if topic is None:
            foreign.note(key.encode())
        else:
            yield topic
