"""The api processes are cut off from Redis while everybody else goes on, and more viewers come meanwhile."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipai_contracts.ids import Topic
from services.standalone.embedded import Server
from tests.conftest import wait_until
from tests.faults.crowd import MANY_TOPICS
from tests.faults.history import Connected, Told, Warned
from tests.faults.rough_proxy import RoughProxy
from tests.faults.round import Round, round_of
from tests.faults.scale import Scale

Tell = Callable[[list[str]], None]

UNWATCHED = tuple(Topic("default", "workflow", f"workflow {number}") for number in (90, 91))
"""Nobody watches them before an outage; there is one for each."""


async def test_viewers_of_an_api_without_redis_are_told_and_miss_nothing(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    """Those who come meanwhile see the newest state it knows; whom it knows nothing for come back until it does."""
    async with (
        RoughProxy.before(own_redis.address) as proxy,
        round_of(tmp_path, replace(scale, apis=2), seed, own_redis.address, {"services.api": proxy.url}) as it,
    ):
        crowd = [one for topic in MANY_TOPICS for one in await it.crowd.come(topic, scale.crowd // 4)]
        await it.crowd.have_come(crowd)
        for unwatched in UNWATCHED:
            await it.load(scale.seconds)
            async with it.fault("the api is cut off from Redis", hides=True):
                warned, stale = len(_warned(it)), len(_stale(it))
                await proxy.cut()
                await wait_until(lambda before=warned: len(_warned(it)) > before, message="nobody was told")
                come = [one for topic in MANY_TOPICS for one in await it.crowd.come(topic, 2)]
                refused = await it.crowd.come(unwatched, 2)
                await wait_until(lambda before=stale: len(_stale(it)) > before, message="nobody was served from memory")
                await it.load(scale.seconds)
                assert not any(one.has_come for one in refused)
            proxy.release()
            await it.crowd.have_come([*come, *refused])
        await it.load(scale.seconds)
        tell([*await it.finish(), f"{len(it.crowd.viewers)} viewers, {len(_stale(it))} served from memory"])
    assert [one for one in it.history.happenings if isinstance(one, Told)] == []


def _warned(it: Round) -> list[Warned]:
    return [one for one in it.history.happenings if isinstance(one, Warned)]


def _stale(it: Round) -> list[Connected]:
    return [one for one in it.history.happenings if isinstance(one, Connected) and one.stale]
