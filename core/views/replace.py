"""Putting a view folded from the log in the place of the live one, under traffic."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from itertools import count, islice
from typing import Final, cast

from pydantic_core import to_json
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from core.log.keys import Keys, partition_of
from core.runtime.lua import Script, load_script
from core.views.folds import encode_state
from core.views.newest import CHANGE_FEED
from core.views.rebuild import FeedEnds, Fresh, Live, heard_sources, mark_first
from core.views.store import CHANGES_LENGTH, ViewStore
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId

_PAGE: Final = 100
"""Feed entries written at once, in the order of a feed entry's fields."""

_STAGED_SECONDS: Final = 300
"""How long a feed may wait to be put in place; one that was left behind by a crash goes by itself."""

_CURRENT_TRIES: Final = 50


class MovingViewError(Exception):
    """The view was committed again and again while it was being looked at."""


class MisfitViewError(Exception):
    """A key of the view, or of its partition, is of the wrong type; a projector makes it anew with its next event."""


class ViewReplacer:
    """Looks at live views, and replaces them."""

    def __init__(self, redis: Redis, keys: Keys, *, feed_length: int, ttl: int) -> None:
        self._redis = redis
        self._keys = keys
        self._feed_length = feed_length
        self._ttl = ttl
        self._store = ViewStore(redis, keys, feed_length=feed_length, ttl=ttl)
        self._stage = load_script(redis, __file__, "stage.lua")
        self._replace = load_script(redis, __file__, CHANGE_FEED, "replace.lua")

    async def look(self, topic: Topic) -> Live:
        """The topic's view, its feed's ends and how far it has heard, of one moment.

        Raises:
            MovingViewError: it is committed too often to be caught.
            MisfitViewError: there is something else in its place.
            redis.exceptions.RedisError: Redis did not answer.
        """
        for _ in range(_CURRENT_TRIES):
            try:
                version, feed, checkpoints, generation, removed = await self._look_around(topic)
            except ResponseError as error:
                if "WRONGTYPE" not in str(error):
                    raise
                raise MisfitViewError(topic.path) from error
            stored = (await self._store.load([topic])).get(topic)
            if stored is not None and version and not stored.version:
                stored = None  # a field of it is missing
            if stored is not None and stored.version != version:
                continue
            names = {source.name for source in heard_sources(self._keys, topic)}
            heard = {} if stored is None else {name: at for name, at in stored.heard.items() if name in names}
            reached = {source: max(at, heard.get(source, at)) for source, at in checkpoints.items()}
            reached |= {source: at for source, at in heard.items() if source not in reached}
            return Live(version, generation, removed, stored, feed, reached, settled=reached == checkpoints)
        raise MovingViewError(topic.path)

    async def _look_around(self, topic: Topic) -> tuple[str, FeedEnds, dict[str, StreamId], int, str]:
        partition = partition_of(topic, self._keys.partitions)
        feed = self._keys.feed(topic)
        sources = [source.name for source in heard_sources(self._keys, topic)]
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hget(self._keys.view(topic), "version")
            pipe.hmget(self._keys.checkpoint(partition), sources)
            pipe.get(self._keys.generation(partition))
            pipe.get(self._keys.removed(partition))
            pipe.xlen(feed)
            pipe.xrange(feed, count=1)
            pipe.xrevrange(feed, count=1)
            version, copies, generation, removed, length, first, last = await pipe.execute()
        checkpoints: dict[str, StreamId] = {}
        for source, copy in zip(sources, cast("list[bytes | None]", copies), strict=True):
            with suppress(ValueError):  # one that was broken by hand says nothing; the projector begins anew there
                if copy is not None:
                    checkpoints[source] = StreamId.parse(copy.partition(b" ")[2])
        ends = [StreamId.parse(rows[0][0]).milliseconds if rows else 0 for rows in (first, last)]
        at = FeedEnds(length, *ends)
        return (version or b"").decode(), at, checkpoints, int(generation or 0), (removed or b"").decode()

    @asynccontextmanager
    async def replacing(self, topic: Topic) -> AsyncGenerator["Replacement"]:
        """Put another view in the place of the topic's, as often as that takes; what is left over is removed."""
        replacement = Replacement(self._redis, self._keys, topic, self._ttl, self._stage, self._replace)
        try:
            yield replacement
        finally:
            await replacement.drop()


class Replacement:
    """The attempts to replace one view.

    Its feed is written beforehand under a name of its own, because the script that puts it in place must not take long,
    and stays from one attempt to the next: while that is written, a busy view moves on.
    """

    def __init__(self, redis: Redis, keys: Keys, topic: Topic, ttl: int, stage: Script, replace: Script) -> None:
        self._redis = redis
        self._keys = keys
        self._topic = topic
        self._ttl = ttl
        self._stage = stage
        self._replace = replace
        self._name = f"rebuilt-{secrets.token_hex(8)}"
        self._key = keys.staged_feed(topic, self._name)
        self._staged: Fresh | None = None
        self._upto = 0

    async def put(self, live: Live, fresh: Fresh) -> bool:
        """Put ``fresh`` in the place of ``live``; False when the view moved on meanwhile, and nothing was changed.

        The view begins another epoch: cursors of the old one are answered with ``reset``, and viewers are told. What is
        put next is quick if it is the same fold, folded on.

        Raises:
            redis.exceptions.RedisError: Redis did not answer; the view is the old or the new one, whole.
        """
        topic, keys = self._topic, self._keys
        await self._stage_feed(fresh)
        partition = partition_of(topic, keys.partitions)
        replaced = await self._replace(
            keys=[
                keys.changes(partition),
                keys.generation(partition),
                keys.view(topic),
                keys.feed(topic),
                self._key,
                keys.removed(partition),
            ],
            args=[
                live.generation,
                live.version,
                self._name,
                CHANGES_LENGTH,
                self._ttl,
                topic.path,
                fresh.pos,
                mark_first(fresh.first, self._name),
                to_json({source: str(stream_id) for source, stream_id in fresh.heard.items()}),
                encode_state(fresh.state),
                live.removed,
            ],
        )
        if replaced:
            self._staged = None
        return bool(replaced)

    async def drop(self) -> None:
        """Remove a feed that was put in no place."""
        if self._staged is not None:
            self._staged = None
            await self._redis.unlink(self._key)

    async def _stage_feed(self, fresh: Fresh) -> None:
        """Write the feed, or what it has more than before."""
        first = fresh.pos - len(fresh.entries) + 1
        if self._staged is not fresh or first > self._upto + 1:
            await self.drop()
            self._upto = first - 1
        self._staged = fresh
        more = islice(fresh.entries, self._upto - first + 1, None)
        numbered = zip(count(self._upto + 1), more, strict=False)
        while page := list(islice(numbered, _PAGE)):
            entries = [field for pos, entry in page for field in (pos, *entry)]
            await self._stage(keys=[self._key], args=[_STAGED_SECONDS, *entries])
            self._upto = page[-1][0]
