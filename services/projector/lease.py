"""Who follows which partition: a lease for each, shared out evenly among the projectors that are there."""

import os
import secrets
import socket
from collections.abc import Iterable
from typing import Final, NamedTuple, cast

from redis.asyncio import Redis

from core.log.keys import Keys
from core.runtime.logs import get_logger
from core.runtime.lua import load_script

_ASKED_PER_LEASE: Final = 5
"""A lease survives questions that fail, and one that was given back is claimed within a fifth of its time."""

_HOSTNAME_LENGTH: Final = 64

log = get_logger()


class Share(NamedTuple):
    """What a projector holds now, and which of these it should hand over to one that has fewer.

    ``was_away``: Redis did not know it any more.
    """

    held: frozenset[int]
    give: int | None
    was_away: bool = False


class Leases:
    """One projector's part in sharing the partitions.

    Leases save work, nothing rests on them: rivals on one partition repeat each other's commits, which changes nothing.
    """

    def __init__(self, redis: Redis, keys: Keys, *, seconds: float) -> None:
        self.projector_id = _new_id()
        self.ask_every = seconds / _ASKED_PER_LEASE
        self._redis = redis
        self._keys = keys
        self._milliseconds = round(seconds * 1000)
        self._share = load_script(redis, __file__, "share.lua")
        self._release = load_script(redis, __file__, "release.lua")
        self._standing = "new"
        self._back_for = 0

    async def share(self, keeping: Iterable[int]) -> Share:
        """Renew what is held, and claim a fair share of what is free; ``keeping`` are the partitions followed now.

        A projector that does not ask for the length of a lease loses its partitions to the others.

        Raises:
            redis.exceptions.RedisError: nothing is known; what was held may be another's once the lease has run out.
        """
        leases = [self._keys.lease(partition) for partition in range(self._keys.partitions)]
        reply = await self._share(
            keys=[self._keys.projectors, *leases],
            args=[self.projector_id, self._milliseconds, self._standing, *keeping],
        )
        held, give, was_away, deleted = cast("tuple[list[int], int, int, list[bytes]]", reply)
        self._back_for = _ASKED_PER_LEASE if was_away else max(self._back_for - 1, 0)
        self._standing = "back" if self._back_for else "known"
        for key in deleted:
            log.error("key of projectors was of another type and was deleted", key=key.decode())
        return Share(frozenset(held), None if give < 0 else give, bool(was_away))

    async def release(self, partition: int) -> None:
        """Give a lease back, so that another can claim it when it asks next.

        Raises:
            redis.exceptions.RedisError: it may run out by itself instead.
        """
        await self._release(keys=[self._keys.lease(partition)], args=[self.projector_id])

    async def leave(self) -> None:
        """Count no longer when partitions are shared out; leases that are held last until they are released.

        Raises:
            redis.exceptions.RedisError: the others will notice when this one asks no more.
        """
        await self._redis.zrem(self._keys.projectors, self.projector_id)


def _new_id() -> str:
    """An id no other projector has, that tells a person where this one runs."""
    return f"{socket.gethostname()[:_HOSTNAME_LENGTH]}-{os.getpid()}-{secrets.token_hex(4)}"
