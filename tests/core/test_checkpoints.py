"""A checkpoint only moves forward, and says no more than every view partition can keep."""

import pytest
from redis.asyncio import Redis

from core.log.checkpoint import NOTHING, Checkpoint
from core.log.keys import Keys
from core.views.checkpoints import Checkpoints, Known
from core.views.errors import GenerationChangedError, ViewsWentBackError
from pipai_contracts.record import StreamId


def _at(offset: int, milliseconds: int, sequence: int = 0) -> Checkpoint:
    return Checkpoint(offset, StreamId(milliseconds, sequence))


async def test_a_source_nobody_projected_has_none(redis: Redis, keys: Keys) -> None:
    assert await Checkpoints(redis, keys).load(keys.source("ai:progress", 0)) == NOTHING


async def test_a_checkpoint_is_never_moved_back(redis: Redis, keys: Keys) -> None:
    checkpoints, source = Checkpoints(redis, keys), keys.source("workflow:progress", 0)

    for checkpoint in (_at(5, 100, 2), _at(4, 100, 1), _at(3, 99, 9), _at(5, 100, 2)):
        await checkpoints.advance(source, checkpoint, since=NOTHING)
        assert await checkpoints.load(source) == _at(5, 100, 2)
    await checkpoints.advance(source, _at(6, 100, 10), since=NOTHING)
    assert await checkpoints.load(source) == _at(6, 100, 10)


async def test_a_log_that_began_anew_moves_on_with_lower_offsets(redis: Redis, keys: Keys) -> None:
    checkpoints, source = Checkpoints(redis, keys), keys.source("workflow:progress", 0)
    await checkpoints.advance(source, _at(50, 100), since=NOTHING)

    await checkpoints.advance(source, _at(1, 200), since=NOTHING)

    assert await checkpoints.load(source) == _at(1, 200)


async def test_each_source_has_its_own(redis: Redis, keys: Keys) -> None:
    checkpoints = Checkpoints(redis, keys)
    await checkpoints.advance(keys.source("workflow:progress", 0), _at(5, 100), since=NOTHING)

    assert await checkpoints.load(keys.source("analysis:progress", 0)) == NOTHING


async def test_the_lowest_copy_counts(redis: Redis, key_prefix: str) -> None:
    """A view partition that lost its latest writes lost its copy with them, and must be projected again."""
    keys = Keys(key_prefix, 2)
    checkpoints, source = Checkpoints(redis, keys), keys.source("workflow:progress", 1)
    await checkpoints.advance(source, _at(5, 100), since=NOTHING)
    before = await redis.hget(keys.checkpoint(0), source.name)
    await checkpoints.advance(source, _at(9, 200), since=NOTHING)

    await redis.hset(keys.checkpoint(0), source.name, before)
    assert await checkpoints.load(source) == _at(5, 100)

    await redis.delete(keys.checkpoint(0))
    assert await checkpoints.load(source) == NOTHING


async def test_a_copy_older_than_the_checkpoint_that_is_followed_is_left_alone(redis: Redis, key_prefix: str) -> None:
    """Moving it would hide that its partition lost its latest writes."""
    keys = Keys(key_prefix, 2)
    checkpoints, source = Checkpoints(redis, keys), keys.source("workflow:progress", 1)
    await checkpoints.advance(source, _at(5, 100, 2), since=NOTHING)
    before = await redis.hget(keys.checkpoint(0), source.name)
    await checkpoints.advance(source, _at(6, 100, 3), since=_at(5, 100, 2))
    await redis.hset(keys.checkpoint(0), source.name, before)

    for to, since in ((_at(7, 100, 4), _at(6, 100, 3)), (_at(9, 300), _at(8, 200))):
        with pytest.raises(ViewsWentBackError):
            await checkpoints.advance(source, to, since=since)
        assert await checkpoints.load(source) == _at(5, 100, 2)

    await checkpoints.advance(source, _at(7, 100, 4), since=_at(5, 100, 2))
    assert await checkpoints.load(source) == _at(7, 100, 4)


async def test_a_copy_that_is_gone_is_not_begun_anew(redis: Redis, keys: Keys) -> None:
    checkpoints, source = Checkpoints(redis, keys), keys.source("workflow:progress", 0)
    await checkpoints.advance(source, _at(5, 100), since=NOTHING)
    await redis.delete(keys.checkpoint(0))

    with pytest.raises(ViewsWentBackError):
        await checkpoints.advance(source, _at(6, 200), since=_at(5, 100))
    assert await checkpoints.load(source) == NOTHING


async def test_it_does_not_move_under_another_generation_than_its_events_were_folded_under(
    redis: Redis, keys: Keys
) -> None:
    checkpoints, source = Checkpoints(redis, keys), keys.source("workflow:progress", 0)
    known = {0: Known(0, None)}
    await checkpoints.advance(source, _at(5, 100), since=NOTHING, known=known)
    await redis.incr(keys.generation(0))

    with pytest.raises(GenerationChangedError):
        await checkpoints.advance(source, _at(6, 200), since=_at(5, 100), known=known)
    assert await checkpoints.load(source) == _at(5, 100)


async def test_it_does_not_move_over_a_change_feed_that_lost_what_was_committed(redis: Redis, keys: Keys) -> None:
    checkpoints, source = Checkpoints(redis, keys), keys.source("workflow:progress", 0)
    known = {0: Known(0, 8)}

    with pytest.raises(ViewsWentBackError):
        await checkpoints.advance(source, _at(5, 100), since=NOTHING, known=known)
    await redis.xadd(keys.changes(0), {"generation": "0"}, id="7-0")
    with pytest.raises(ViewsWentBackError):
        await checkpoints.advance(source, _at(5, 100), since=NOTHING, known=known)
    await redis.xadd(keys.changes(0), {"generation": "0"}, id="8-0")
    await checkpoints.advance(source, _at(5, 100), since=NOTHING, known=known)

    assert await checkpoints.load(source) == _at(5, 100)
