"""Several projectors on the same partitions, and projectors that die: every view is still the fold of the log.

Leases keep projectors apart; here they are told that every partition is theirs, because nothing may rest on leases.
"""

import asyncio
import signal
from collections.abc import Iterable
from contextlib import AsyncExitStack
from random import Random

from services.projector.lease import Leases, Share
from tests.conftest import wait_until
from tests.core.telling import Told, step
from tests.projector.conftest import Deployment
from tests.projector.fresh_fold import is_projected
from tests.projector.processes import projector_process
from tests.projector.random_run import random_run


class Unshared(Leases):
    """Every partition is held by everybody."""

    async def share(self, keeping: Iterable[int]) -> Share:
        await super().share(keeping)
        return Share(frozenset(range(self._keys.partitions)), None, was_away=False)


async def _publish_in_parts(deployment: Deployment, told: list[Told], seed: int) -> None:
    """A few events at a time; some of them twice."""
    random = Random(seed)
    envelopes = [one.envelope(f"{seed} {number}") for number, one in enumerate(told)]
    while envelopes:
        size = random.randint(1, 7)
        part, envelopes = envelopes[:size], envelopes[size:]
        await deployment.appender.append(part + random.sample(part, random.randrange(len(part) + 1)))
        await asyncio.sleep(0)


async def test_rivals_on_the_same_streams_repeat_nothing_and_lose_nothing(any_deployment: Deployment) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(any_deployment.projecting(Unshared, projector_batch=5))
        await asyncio.gather(
            *(_publish_in_parts(any_deployment, list(random_run(seed, 120)), seed) for seed in range(4))
        )
        assert await any_deployment.settled(30) > 15
    assert set(await any_deployment.generations()) == {0}


async def test_a_projector_that_starts_and_stops_at_random_leaves_a_fresh_fold(any_deployment: Deployment) -> None:
    random = Random(7)
    for seed in range(4):
        publishing = asyncio.create_task(_publish_in_parts(any_deployment, list(random_run(seed, 60)), seed))
        async with any_deployment.projecting(projector_batch=random.randint(1, 9)):
            await wait_until(lambda: _has_some_views(any_deployment))
        await publishing
    async with any_deployment.projecting():
        await any_deployment.settled()


async def _has_some_views(deployment: Deployment) -> bool:
    return await deployment.redis.xlen(deployment.keys.changes(0)) > 0


async def test_a_projector_killed_in_the_middle_loses_and_repeats_nothing(deployment: Deployment) -> None:
    """Kill -9 while it projects, twice; the third one ends the work."""
    publishing = asyncio.create_task(_publish_in_parts(deployment, list(random_run(11, 600)), 11))
    for _ in range(2):
        async with projector_process(deployment) as projector:
            before = await deployment.redis.xlen(deployment.keys.changes(0))
            await wait_until(lambda seen=before: _grew(deployment, seen), 20, "the projector did nothing")
            projector.send_signal(signal.SIGKILL)
            await projector.wait()
            await deployment.publish(step(1, of="while nobody projects"))
    await publishing
    async with projector_process(deployment):
        await wait_until(lambda: is_projected(deployment.redis, deployment.keys), 20)
    await deployment.settled()


async def _grew(deployment: Deployment, seen: int) -> bool:
    return await deployment.redis.xlen(deployment.keys.changes(0)) > seen
