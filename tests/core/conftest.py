"""A Redis connection and keys of one test."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from core.log.append import Appender
from core.log.keys import Keys


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture
def keys(key_prefix: str) -> Keys:
    return Keys(key_prefix)


@pytest.fixture
def appender(redis: Redis, keys: Keys) -> Appender:
    return Appender(redis, keys, idempotency_window=60, owner_ttl=60)
