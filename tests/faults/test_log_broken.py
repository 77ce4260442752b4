"""The log damaged by hand, and trimmed all the while."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from core.log.keys import GROUP
from services.standalone.embedded import Server
from tests.faults.checker import lost_by_redis
from tests.faults.history import Told
from tests.faults.round import Round, round_of
from tests.faults.scale import Scale

Tell = Callable[[list[str]], None]


async def broken_for_good(it: Round, what: str, breaking: Callable[[], Awaitable[object]]) -> list[str]:
    """Break something that is lost with it in the middle of the load, and let it heal; returns the figures."""
    await it.load(it.scale.seconds)
    async with it.fault(what, loses=True):
        await breaking()
    await it.load(it.scale.seconds)
    return await it.finish()


async def test_destroyed_groups_lose_and_repeat_nothing(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    async with round_of(tmp_path, scale, seed, own_redis.address) as it:
        await it.load(scale.seconds)
        for source in it.keys.sources():
            async with it.fault("a consumer group is destroyed"):
                await it.redis.xgroup_destroy(source.key, GROUP)
            await it.load(0.3)
        await it.load(scale.seconds)
        tell(await it.finish())


async def test_a_redis_that_was_emptied_is_told_and_everything_new_is_in_its_views_once(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    """FLUSHALL: the log and all that was made of it are gone together, in the middle of the load."""
    async with round_of(tmp_path, scale, seed, own_redis.address) as it:
        figures = await broken_for_good(it, "FLUSHALL", lambda: it.redis.flushall(asynchronous=False))
        assert lost_by_redis(it.history.happenings, it.keys)
        assert sum([await projector.counted("pipai_log_regressions_total") for projector in it.projectors])
        told = [one.viewer for one in it.history.happenings if isinstance(one, Told)]
        assert {viewer.name for viewer in it.crowd.viewers} <= set(told)
        tell(figures)


async def test_a_log_trimmed_by_hand_while_nobody_projects_is_counted_and_told(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    async def trim_unprojected(it: Round) -> None:
        for projector in it.projectors:
            projector.pause()
        await it.load(0.7)
        for source in it.keys.sources():
            await it.redis.xtrim(source.key, maxlen=10, approximate=False)
        for projector in it.projectors:
            projector.resume()

    async with round_of(tmp_path, scale, seed, own_redis.address) as it:
        figures = await broken_for_good(it, "XTRIM by hand", lambda: trim_unprojected(it))
        counted = sum([await projector.counted("pipai_lost_events_total") for projector in it.projectors])
        lost = lost_by_redis(it.history.happenings, it.keys)
        assert counted >= len(lost) > 0
        tell(figures)


async def test_trimming_all_the_while_takes_nothing_that_is_not_in_its_views(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    """Also when projectors die, and feeds are so short that a viewer who comes back late is told to begin anew."""
    async with round_of(
        tmp_path, scale, seed, own_redis.address, STREAM_MAX_ENTRIES="150", LEASE_SECONDS="1", IDEMPOTENCY_WINDOW="60"
    ) as it:
        for _ in range(3):
            await it.load(1)
            await it.kill_projector()
        await it.load(scale.seconds)
        tell(await it.finish())
        lengths = [await it.redis.xlen(source.key) for source in it.keys.sources()]
        assert max(lengths) < it.workload.published / 4


async def test_checkpoints_overwritten_with_something_else_lose_and_repeat_nothing(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    """The views are told to be begun anew, because nobody can know; what is in them is skipped."""
    async with round_of(tmp_path, scale, seed, own_redis.address) as it:
        checkpoint = it.keys.checkpoint(0)
        figures = await broken_for_good(
            it, "a checkpoint of the wrong type", lambda: it.redis.set(checkpoint, "something else")
        )
        assert not lost_by_redis(it.history.happenings, it.keys)
        assert sum([await projector.counted("pipai_repaired_keys_total") for projector in it.projectors])
        tell(figures)
