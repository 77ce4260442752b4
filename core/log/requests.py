"""Which body a request's key came with.

The events of a request are recognised by ids made of its key. Another body under that key would be answered with the
places of events it does not have: a part of a batch sent again, for one, stands at other indexes than before.
"""

from hashlib import blake2b
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.errors import LogUnavailableError
from core.log.keys import Keys
from core.runtime.lua import load_script
from pipai_contracts.ids import DEFAULT_TENANT

_MARGIN: Final = 60
"""Seconds beyond the idempotency window: the events are appended, and remembered, some time after the key is bound."""


class Requests:
    """Binds the keys of requests to the bodies they came with first."""

    def __init__(self, redis: Redis, keys: Keys, *, idempotency_window: int) -> None:
        self._keys = keys
        self._seconds = idempotency_window + _MARGIN
        self._script = load_script(redis, __file__, "bind.lua")

    async def bind(self, scope: str, key: str, body: bytes) -> bool:
        """Bind the key, within its scope, to the body; whether it is bound to no other.

        Raises:
            LogUnavailableError: Redis did not answer, or takes nothing.
        """
        digest = blake2b(body, digest_size=16).hexdigest()
        name = self._keys.request(DEFAULT_TENANT, scope, key)
        try:
            return bool(await self._script(keys=[name], args=[digest, self._seconds]))
        except RedisError as error:
            raise LogUnavailableError(f"cannot bind a request's key: {error}") from error
