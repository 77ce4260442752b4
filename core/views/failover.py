"""Noticing that another node serves a view partition, and whether it lacks what was written last.

A replica that becomes master lacks what had not reached it yet. The views it serves went back, and positions that
viewers saw will be given to other events: the partition's generation has to be raised, unless it is shown that the
new history goes on from the old one. What shows it is the newest change this process wrote: commands reach a replica
in the order they were given, so where that one stands, everything before it does too.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from secrets import token_hex
from typing import Final, Literal, cast

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from core.log.keys import Keys
from core.runtime.logs import get_logger
from core.runtime.redis import ask_holder
from core.runtime.tasks import running
from core.views.newest import Change
from core.views.store import ViewStore
from pipai_contracts.record import StreamId

_LOOK_EVERY: Final = 5.0
"""Seconds between two looks at who serves a partition."""

_LEAVE_WITHIN: Final = 0.5

_LEFT: Final = "left"
"""In place of a history's name: who wrote last has gone in peace, and where this stands all it wrote does too."""

Regression = Literal["lost", "unknown"]
"""``lost``: what was written last is gone. ``unknown``: nobody can tell, as after a crash of projector and Redis."""

_Row = tuple[bytes, dict[bytes, bytes]]

log = get_logger()


class Failover:
    """Looks after the histories of view partitions. A history (``master_replid``) is a master's; a new one has another.

    The history a partition was last seen with is kept beside its views, so that a projector that starts after the
    failover notices too.
    """

    def __init__(self, redis: Redis, keys: Keys, store: ViewStore) -> None:
        self._redis = redis
        self._keys = keys
        self._store = store
        self._newest = store.newest
        self._seen: dict[int, str] = {}
        self._name = token_hex(6)
        self._hidden = False

    @asynccontextmanager
    async def watching(self, partition: int, tell: Callable[[Regression], None]) -> AsyncGenerator[None]:
        """Look again and again while the block lasts; ``tell`` is called when the partition's views went back."""
        try:
            async with running(self._watch(partition, tell)):
                yield
        finally:
            with suppress(RedisError, TimeoutError):
                async with asyncio.timeout(_LEAVE_WITHIN):
                    await self.leave(partition)

    async def _watch(self, partition: int, tell: Callable[[Regression], None]) -> None:
        failing = False
        while not self._hidden:
            try:
                regression = await self.look(partition)
                failing = False
                if regression is not None:
                    tell(regression)
            except Exception as error:  # noqa: BLE001 - without looks a failover would go unnoticed
                if not failing:
                    log.warning("view partition cannot be looked at", partition=partition, error=str(error))
                failing = True
            await asyncio.sleep(_LOOK_EVERY)

    async def look(self, partition: int) -> Regression | None:
        """See whether the partition has another history, or went back in its own; if so raise its generation.

        Returns what is wrong; None when nothing is.

        Raises:
            redis.exceptions.RedisError: Redis did not answer; look again.
        """
        history = await self._history(partition)
        if history is None:
            return None
        regression = await self._judge(partition, history)
        if regression is not None:
            said = "views went back" if regression == "lost" else "views may have gone back"
            log.error(said, partition=partition, history=history)
            self._newest.forget(partition)
            await self._store.raise_generation(partition)
        if self._seen.get(partition) != history:  # not before: a failure above would forget what is to be told
            await self._redis.set(self._keys.history(partition), self._signed(history))
            self._seen[partition] = history
        if self._newest.get(partition) is None:
            await self._see_newest(partition)
        return regression

    async def leave(self, partition: int) -> None:
        """Say that this process writes no more, so that whoever comes next has nothing to fear from a restart.

        Raises:
            redis.exceptions.RedisError: the next one will raise the generation if the history is another by then.
        """
        seen = self._seen.pop(partition, None)
        self._newest.forget(partition)
        # Another that follows by now has signed: its writes are not over.
        if seen is not None and await self._redis.get(self._keys.history(partition)) == self._signed(seen).encode():
            await self._redis.set(self._keys.history(partition), _LEFT)

    def _signed(self, history: str) -> str:
        return f"{history} {self._name}"

    async def _judge(self, partition: int, history: str) -> Regression | None:
        newest = self._newest.get(partition)
        if partition in self._seen:
            if self._seen[partition] == history:
                return None
            if newest is not None:
                return None if await self._stands(partition, newest) else "lost"
        stored = cast("bytes | None", await self._redis.get(self._keys.history(partition)))
        if stored is None:  # nobody has looked yet: other projectors may write before the first who looks
            return None
        last_seen = stored.decode().partition(" ")[0]
        if last_seen in {history, _LEFT} or not await self._redis.exists(self._keys.changes(partition)):
            return None
        return "unknown"

    async def _stands(self, partition: int, change: Change) -> bool:
        """Whether the change is where it was."""
        place = f"{change.number}-0"
        reply = await self._redis.xrange(self._keys.changes(partition), min=place, max=place)
        return bool(reply) and _change(cast("_Row", reply[0])) == change

    async def _see_newest(self, partition: int) -> None:
        """Without this an idle deployment would know of nothing that proves a plain restart lost nothing."""
        reply = await self._redis.xrevrange(self._keys.changes(partition), count=1)
        if reply:
            self._newest.seen(partition, _change(cast("_Row", reply[0])))

    async def _history(self, partition: int) -> str | None:
        """The name of the history the partition's node has; None where Redis does not tell."""
        try:
            answer = await ask_holder(self._redis, self._keys.history(partition), "INFO", "replication")
            return str(answer["master_replid"])
        except (ResponseError, KeyError) as error:
            if isinstance(error, ResponseError) and not _is_refused(error):
                raise
            self._hidden = True
            log.warning("Redis does not tell its replication id: failovers are not looked for", error=str(error))
            return None


def _change(row: _Row) -> Change:
    number, fields = StreamId.parse(row[0]).milliseconds, row[1]
    return Change(
        number,
        fields.get(b"topic", b"").decode(),  # none: the entry tells of a generation
        int(fields.get(b"pos", b"0")),
        fields.get(b"stream_id", b"").decode(),
    )


def _is_refused(error: ResponseError) -> bool:
    """Whether Redis will never answer this, by its rules or for want of the command."""
    return isinstance(error, NoPermissionError) or "unknown command" in str(error).lower()
