"""Putting right what another hand broke among views and what belongs to them.

All of it is derived from the log. So what is of the wrong type, or cannot be read, is removed and made again from the
history, and the generation is raised: every viewer of the partition is told.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from core.log.checkpoint import is_checkpoint
from core.log.damage import MisfitRemover
from core.log.keys import Keys, partition_of
from core.runtime.logs import get_logger
from core.runtime.lua import load_script
from core.views.refold import Refolder
from core.views.replace import MisfitViewError, MovingViewError
from core.views.store import ViewStore
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId

_MAX_DIGITS: Final = 15
"""Of a generation: beyond it Lua could not count on."""

log = get_logger()

_TYPES: Final = {"changes": "stream", "checkpoint": "hash", "generation": "string"}


class Repair:
    """Repairs the views of one deployment. Every method returns the kinds of keys it made anew, one each time."""

    def __init__(self, redis: Redis, keys: Keys, store: ViewStore, refolder: Refolder) -> None:
        self._redis = redis
        self._keys = keys
        self._store = store
        self._misfits = MisfitRemover(redis)
        self._discard = load_script(redis, __file__, "discard.lua")
        self._refolder = refolder

    async def partition(self, partition: int) -> list[str]:
        """Put the change feed, checkpoint and generation of a view partition right.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        keys = self._keys
        names = {
            keys.changes(partition): "changes",
            keys.checkpoint(partition): "checkpoint",
            keys.generation(partition): "generation",
        }
        repaired = [names[key] for key in await self._remove([(key, _TYPES[name]) for key, name in names.items()])]
        if await self._remove_unreadable_checkpoints(partition):
            repaired.append("checkpoint")
        if await self._reset_unreadable_generation(partition):
            repaired.append("generation")
        if repaired:
            await self._store.raise_generation(partition)
        return repaired

    async def parked(self) -> list[str]:
        """Put right what remembers which events were parked; parking itself puts their letters right."""
        parked = [(self._keys.parked(source), "zset") for source in self._keys.sources()]
        return ["parked" for _ in await self._remove(parked)]

    async def views(self, topics: Iterable[Topic]) -> list[str]:
        """Fold the views of these topics, which cannot be read or written, again from what the history has of them.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        repaired: list[str] = []
        by_partition: dict[int, list[Topic]] = {}
        for topic in topics:
            by_partition.setdefault(partition_of(topic, self._keys.partitions), []).append(topic)
        for partition, broken in by_partition.items():
            removed = [topic for topic in broken if await self._remove_unreadable(topic)]
            if removed:
                await self._store.raise_generation(partition)
                with suppress(MovingViewError, MisfitViewError):  # somebody else makes them just now
                    await self._refolder.refold(removed)
            repaired += ["view" for _ in removed]
        return repaired

    async def _remove_unreadable(self, topic: Topic) -> bool:
        """Remove a view and its feed, unless another projector has made them anew meanwhile."""
        key = self._keys.view(topic)
        version = await self._version(key)
        if topic in await self._store.load([topic]):
            return False
        removed = await self._discard(keys=[key, self._keys.feed(topic)], args=[version])
        if removed:
            log.error("view cannot be read; it is folded again", topic=topic.path, key=key)
        return bool(removed)

    async def _version(self, key: str) -> bytes:
        """The version a view has, readable or not; none in a key that is no hash."""
        try:
            return cast("bytes | None", await cast("Any", self._redis).hget(key, "version")) or b""
        except ResponseError:
            return b""

    async def after_failed_commit(self, partition: int, topics: Sequence[Topic]) -> list[str]:
        """Put right whatever is wrong of what a commit of these topics touches.

        Nothing repaired: the commit failed for another reason.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        repaired = await self.partition(partition)
        stored = await self._store.load(topics)
        unfit = [topic for topic, view in stored.items() if await self._remove_unfit_feed(topic, view.pos)]
        if unfit:
            await self._store.raise_generation(partition)
        broken = [topic for topic in topics if topic not in stored]
        return [*repaired, *("feed" for _ in unfit), *await self.views(broken)]

    async def _remove_unfit_feed(self, topic: Topic, pos: int) -> bool:
        """Remove a feed that is none, or that is beyond its view and would refuse what follows there.

        The view stays as it is: it may know of events the log no longer has.
        """
        key = self._keys.feed(topic)
        if await self._remove([(key, "stream")]):
            return True
        newest = cast("list[Any]", await self._redis.xrevrange(key, count=1))
        if not newest or StreamId.parse(newest[0][0]).milliseconds <= pos:
            return False
        log.error("feed is beyond its view and was removed", key=key, newest=newest[0][0].decode(), pos=pos)
        await self._redis.unlink(key)
        return True

    async def _remove(self, keys: Sequence[tuple[str, str]]) -> list[str]:
        """Remove those that are of another type; returns their keys."""
        misfits = await self._misfits.remove(keys)
        for misfit in misfits:
            log.error("key of the wrong type removed", key=misfit.key, found=misfit.found)
        return [misfit.key for misfit in misfits]

    async def _remove_unreadable_checkpoints(self, partition: int) -> bool:
        """Forget copies nobody can read: the events are projected again, and views skip what they have."""
        key = self._keys.checkpoint(partition)
        copies = cast("dict[bytes, bytes]", await self._redis.hgetall(key))
        unreadable = [name.decode(errors="replace") for name, copy in copies.items() if not is_checkpoint(copy)]
        if unreadable:
            log.error("checkpoints that cannot be read removed", key=key, sources=unreadable[:10])
            await self._redis.hdel(key, *unreadable)
        return bool(unreadable)

    async def _reset_unreadable_generation(self, partition: int) -> bool:
        """Begin a generation nobody can read at the clock, to be raised: a small number may have been one already."""
        key = self._keys.generation(partition)
        stored = cast("bytes | None", await self._redis.get(key))
        unreadable = stored is not None and not (stored.isdigit() and len(stored) <= _MAX_DIGITS)
        if unreadable:
            log.error("generation that cannot be read set anew", key=key, found=repr(stored)[:100])
            await self._redis.set(key, int(time.time()))
        return unreadable
