"""Whether a process can work with the Redis it was given, before it begins."""

import asyncio
from typing import Final

from redis.exceptions import RedisError

from core.log.keys import Keys
from core.log.layout import LayoutError, load_layout, require_same
from core.runtime.memory import EvictingRedisError, refuse_eviction
from core.runtime.redis import command_client
from core.runtime.settings import Settings

_PATIENCE: Final = 5.0


async def why_unfit(settings: Settings, address: str | None = None) -> str | None:
    """Why no process with these settings can work on this Redis until somebody changes one; None when it can.

    A Redis that does not answer is given the benefit of the doubt. ``address``: another than that of the settings.
    """
    redis = command_client(address or settings.redis_address())
    try:
        async with asyncio.timeout(_PATIENCE):
            await refuse_eviction(redis)
            keys = Keys(settings.key_prefix, settings.stream_partitions)
            require_same(await load_layout(redis, keys), keys)
    except (LayoutError, EvictingRedisError) as error:
        return str(error)
    except (RedisError, OSError):  # TimeoutError is an OSError
        return None
    finally:
        await redis.aclose()
    return None
