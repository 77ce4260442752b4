"""A checkpoint only moves forward, and says no more than every view partition can keep."""

from redis.asyncio import Redis

from core.log.keys import Keys
from core.views.checkpoints import NOTHING, Checkpoint, Checkpoints
from pipai_contracts.record import StreamId


def _at(offset: int, milliseconds: int, sequence: int = 0) -> Checkpoint:
    return Checkpoint(offset, StreamId(milliseconds, sequence))


async def test_a_source_nobody_projected_has_none(redis: Redis, keys: Keys) -> None:
    assert await Checkpoints(redis, keys).load(keys.source("ai:progress", 0)) == NOTHING


async def test_a_checkpoint_is_never_moved_back(redis: Redis, keys: Keys) -> None:
    checkpoints, source = Checkpoints(redis, keys), keys.source("workflow:progress", 0)

    for checkpoint in (_at(5, 100, 2), _at(4, 100, 1), _at(3, 99, 9), _at(5, 100, 2)):
        await checkpoints.advance(source, checkpoint)
        assert await checkpoints.load(source) == _at(5, 100, 2)
    await checkpoints.advance(source, _at(6, 100, 10))
    assert await checkpoints.load(source) == _at(6, 100, 10)


async def test_a_log_that_began_anew_moves_on_with_lower_offsets(redis: Redis, keys: Keys) -> None:
    checkpoints, source = Checkpoints(redis, keys), keys.source("workflow:progress", 0)
    await checkpoints.advance(source, _at(50, 100))

    await checkpoints.advance(source, _at(1, 200))

    assert await checkpoints.load(source) == _at(1, 200)


async def test_each_source_has_its_own(redis: Redis, keys: Keys) -> None:
    checkpoints = Checkpoints(redis, keys)
    await checkpoints.advance(keys.source("workflow:progress", 0), _at(5, 100))

    assert await checkpoints.load(keys.source("analysis:progress", 0)) == NOTHING


async def test_the_lowest_copy_counts(redis: Redis, key_prefix: str) -> None:
    """A view partition that lost its latest writes lost its copy with them, and must be projected again."""
    keys = Keys(key_prefix, 2)
    checkpoints, source = Checkpoints(redis, keys), keys.source("workflow:progress", 1)
    await checkpoints.advance(source, _at(5, 100))
    before = await redis.hget(keys.checkpoint(0), source.name)
    await checkpoints.advance(source, _at(9, 200))

    await redis.hset(keys.checkpoint(0), source.name, before)
    assert await checkpoints.load(source) == _at(5, 100)

    await redis.delete(keys.checkpoint(0))
    assert await checkpoints.load(source) == NOTHING
