"""Processes that do not agree on the number of partitions do not work on one deployment."""

import pytest
from redis.asyncio import Redis

from core.log.append import Appender
from core.log.errors import LogUnavailableError
from core.log.keys import Keys
from core.log.layout import Layout, LayoutError, change_layout, check_layout, load_layout
from tests.core.telling import step


async def test_the_first_process_writes_the_layout_down_and_others_agree_with_it(redis: Redis, key_prefix: str) -> None:
    keys = Keys(key_prefix, 4)
    assert await load_layout(redis, keys) is None
    await check_layout(redis, keys)
    await check_layout(redis, keys)
    assert await load_layout(redis, keys) == Layout(4)


async def test_another_number_is_refused_with_both_numbers_and_the_command(redis: Redis, key_prefix: str) -> None:
    await check_layout(redis, Keys(key_prefix, 4))
    with pytest.raises(LayoutError, match=r"STREAM_PARTITIONS is 2 here.*has 4: set it to 4.*repartition --to 2"):
        await check_layout(redis, Keys(key_prefix, 2))


async def test_nobody_starts_while_it_is_being_changed(redis: Redis, key_prefix: str) -> None:
    keys = Keys(key_prefix)
    await check_layout(redis, keys)
    await change_layout(redis, keys, Layout(1), Layout(1, 4, "copying"))
    for partitions in (1, 4):
        with pytest.raises(LayoutError, match=r"from 1 to 4 partitions.*repartition --to 4 --yes"):
            await check_layout(redis, Keys(key_prefix, partitions))


async def test_only_the_layout_that_was_looked_at_is_changed(redis: Redis, key_prefix: str) -> None:
    keys = Keys(key_prefix)
    await change_layout(redis, keys, None, Layout(1))
    with pytest.raises(LayoutError, match="another program changed"):
        await change_layout(redis, keys, None, Layout(2))
    with pytest.raises(LayoutError, match="another program changed"):
        await change_layout(redis, keys, Layout(2), Layout(3))
    assert await load_layout(redis, keys) == Layout(1)


async def test_who_appends_writes_a_lost_layout_down_again_and_is_refused_under_another(
    redis: Redis, key_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a FLUSHALL under running services of two numbers: else each would go on with its own."""
    monkeypatch.setattr("core.log.append.TRUSTED_SECONDS", 0.0)
    one, other = (
        Appender(redis, Keys(key_prefix, partitions), idempotency_window=60, owner_ttl=60) for partitions in (4, 2)
    )
    await one.append([step(1).envelope("a")])
    assert await load_layout(redis, Keys(key_prefix)) == Layout(4)
    with pytest.raises(LogUnavailableError, match="STREAM_PARTITIONS is 2 here"):
        await other.append([step(1).envelope("b")])
    await redis.delete(Keys(key_prefix).layout)
    await other.append([step(1).envelope("b")])
    with pytest.raises(LogUnavailableError, match="STREAM_PARTITIONS is 4 here"):
        await one.append([step(2).envelope("c")])


@pytest.mark.parametrize("stored", ["4", "partitions=0", "partitions=1->2", "partitions=1 phase=copying", "ä"])
async def test_what_is_no_layout_is_refused(redis: Redis, key_prefix: str, stored: str) -> None:
    keys = Keys(key_prefix)
    await redis.set(keys.layout, stored)
    with pytest.raises(LayoutError, match="no layout this build knows"):
        await check_layout(redis, keys)
