"""A live view beside the fold of its log, at equal positions while traffic flows."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Final
from zlib import crc32

from core.log.archive.wanted import Wanted
from core.log.keys import HEARD_BY, SOURCES
from core.log.scan import viewed_topics
from core.runtime.redis import ask_holder
from core.views.rebuild import Difference, Fresh, Live, differences, why_unverifiable
from core.views.replace import ViewReplacer
from core.views.topic_folds import TopicFolds
from pipai_contracts.ids import Topic
from services.admin.command import Deployment, RefusedError
from services.admin.foreign import ForeignKeys
from services.admin.progress import Progress
from services.admin.selection import Selection

MISFIT: Final = "one of its keys is of the wrong type: the next event of it has that made anew"
"""Why a view cannot be looked at."""

_EVENTS_AT_ONCE: Final = 1_000_000
"""Of the archive, folded in one go: with their feeds half a gigabyte."""

_TOPICS_AT_ONCE: Final = 100_000
"""Their states are as much."""

_TOGETHER: Final = 4
"""Views compared and replaced at a time: while Redis writes the feed of one, the next is on its way."""

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
    """Compares views of one deployment with its history, as many of them at a time as can be folded in memory.

    ``with_feeds``: they are to be replaced, so their feeds are kept too.
    """

    def __init__(self, deployment: Deployment, selection: Selection, *, with_feeds: bool) -> None:
        settings = deployment.settings
        self._deployment = deployment
        self._redis = deployment.redis
        self._keys = deployment.keys
        self._ttl = settings.view_ttl
        self._selection = selection
        self._feed_length = settings.stream_max_entries if with_feeds else 0
        self._folds = self._begin(lambda _: False)
        self.replacer = ViewReplacer(
            deployment.redis, deployment.keys, feed_length=settings.stream_max_entries, ttl=settings.view_ttl
        )

    async def groups(self) -> AsyncIterator[list[Topic]]:
        """The selected topics, those with events before those that only have a view.

        Those of a group may be compared at once, and have to be before the next is asked for.

        Raises:
            RefusedError: the one that was selected is neither.
        """
        only = self._selection.topic
        if only is not None:
            self._folds = self._begin(self._selection.wants, Wanted.of(only))
            await self._folds.read_projected()
            if only not in self._folds.topics and not await self._redis.exists(self._keys.view(only)):
                raise RefusedError(f"no such topic: {only.path} has no view, and no event that was projected")
            yield [only]
            return
        parts = await self._parts()
        for part in range(parts):
            wanted = partial(self._is_of_part, part, parts)
            self._folds = self._begin(wanted)
            await self._folds.read_projected()
            folded = sorted(self._folds.topics)
            for start in range(0, len(folded), _TOGETHER):
                yield folded[start : start + _TOGETHER]
            known = set(folded)
            async for topic in viewed_topics(self._redis, self._keys, foreign=ForeignKeys().note):
                if wanted(topic) and topic not in known:
                    yield [topic]

    async def _parts(self) -> int:
        """In how many parts topics are folded: memory is bounded, and each part reads the history once more."""
        archive = self._deployment.archive
        if archive is None:
            return 1
        events, topics = await archive.size_up()
        return max(ceil(events / _EVENTS_AT_ONCE), ceil(topics / _TOPICS_AT_ONCE), 1)

    def _is_of_part(self, part: int, parts: int, topic: Topic) -> bool:
        return self._selection.wants(topic) and crc32(topic.path.encode()) % parts == part

    def _begin(self, wants: Callable[[Topic], bool], only: Wanted | None = None) -> TopicFolds:
        kind = self._selection.topic.kind if self._selection.topic else self._selection.kind
        return TopicFolds(
            self._redis,
            self._keys,
            self._deployment.archive,
            wants,
            feed_length=self._feed_length,
            progress=Progress("events read").step,
            streams=SOURCES if kind is None else HEARD_BY[kind],
            only=only,
        )

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
        await self._folds.read_up_to(live.reached)
        fresh = await self._folds.fold(topic, live.reached)
        reason = why_unverifiable(live, fresh, self._folds.log_states(topic))
        found = [] if reason is not None else differences(live, fresh)
        return Comparison(topic, live, fresh, reason, found, await self._is_expired(live, fresh))

    async def _is_expired(self, live: Live, fresh: Fresh) -> bool:
        if live.exists or not fresh.pos:
            return False
        seconds, _ = await ask_holder(self._redis, self._keys.layout, "TIME")
        return fresh.newest.milliseconds / 1000 + self._ttl < seconds
