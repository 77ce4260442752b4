"""Several projectors share the partitions; whatever becomes of one of them, nothing is lost or repeated."""

import asyncio
import gc
import signal
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from faststream.redis.subscriber.usecases.basic import LogicSubscriber
from prometheus_client import REGISTRY

from core.log.errors import LogUnavailableError
from services.projector.lease import Leases, Share
from services.projector.projector import Projector
from services.standalone.embedded import Server
from tests.conftest import wait_until
from tests.core.telling import step
from tests.projector.conftest import Deployment, deployed
from tests.projector.processes import holders, projector_process


@pytest.fixture
async def spread(redis_url: str, key_prefix: str) -> AsyncIterator[Deployment]:
    """A deployment of four partitions."""
    async with deployed(redis_url, key_prefix, 4) as deployment:
        yield deployment


@asynccontextmanager
async def traffic(deployment: Deployment) -> AsyncGenerator[None]:
    """Events of twenty workflows, one after another, while the block runs; at the end every one is in its views."""
    stop = asyncio.Event()
    acknowledged: list[str] = []

    async def publish() -> None:
        while not stop.is_set():
            number = len(acknowledged)
            try:
                published = await deployment.publish(step(number % 100, of=f"w{number % 20}").by("ada"))
            except LogUnavailableError:  # a Redis that is away
                continue
            acknowledged.extend(one.event_id for one in published)
            await asyncio.sleep(0.005)

    publishing = asyncio.create_task(publish())
    try:
        yield
        so_far = len(acknowledged)
        await wait_until(lambda: len(acknowledged) > so_far + 40, message="nothing was published any more")
    finally:
        stop.set()
        await publishing
    assert await deployment.settled(20) == 21
    offsets = [int(await deployment.redis.get(source.offset) or 0) for source in deployment.keys.sources()]
    assert sum(offsets) == len(acknowledged)


async def _all_held_by(deployment: Deployment, process_id: int) -> bool:
    return set(await holders(deployment)) == {process_id}


async def _shares(deployment: Deployment) -> list[int]:
    """How many partitions each process holds, when all are held; else nothing."""
    held = await holders(deployment)
    return [] if None in held else sorted(Counter(held).values())


async def test_a_killed_projector_is_replaced_within_seconds_and_nothing_is_lost(spread: Deployment) -> None:
    """With the lease as it is by default."""
    async with projector_process(spread, lease_seconds=5) as killed:
        await wait_until(lambda: _all_held_by(spread, killed.pid), 20)
        async with projector_process(spread, lease_seconds=5) as survivor, traffic(spread):
            await wait_until(lambda: _is_shared(spread, [2, 2]), 20)
            killed.send_signal(signal.SIGKILL)
            await wait_until(lambda: _all_held_by(spread, survivor.pid), 20, "nobody took over")


async def _is_shared(deployment: Deployment, shares: list[int]) -> bool:
    return await _shares(deployment) == shares


async def test_a_projector_that_is_told_to_stop_hands_over_at_once(spread: Deployment) -> None:
    """Long before its leases would run out."""
    async with projector_process(spread, lease_seconds=15) as stopping:
        await wait_until(lambda: _all_held_by(spread, stopping.pid), 20)
        async with projector_process(spread, lease_seconds=5) as other, traffic(spread):
            await wait_until(lambda: _has_some(spread, other.pid), 20)
            stopping.send_signal(signal.SIGTERM)
            await wait_until(lambda: _all_held_by(spread, other.pid), 10, "it was not handed over")


async def _has_some(deployment: Deployment, process_id: int) -> bool:
    return process_id in await holders(deployment)


async def test_projectors_come_and_go_under_traffic_and_the_work_is_shared_evenly(spread: Deployment) -> None:
    def shares() -> list[int]:
        held = [projector.held for projector in projectors]
        whole = frozenset[int]().union(*held) == frozenset(range(4)) and sum(map(len, held)) == 4
        return sorted(map(len, held)) if whole and all(projector.ready for projector in projectors) else []

    projectors: list[Projector] = []
    async with AsyncExitStack() as first, traffic(spread):
        projectors.append(await first.enter_async_context(spread.projecting()))
        await wait_until(lambda: shares() == [4])
        async with AsyncExitStack() as others:
            for _ in range(2):
                newcomer = await others.enter_async_context(spread.projecting())
                projectors.append(newcomer)
            await wait_until(lambda: shares() == [1, 1, 2], 20)
            assert REGISTRY.get_sample_value("pipai_partitions") == 4
        del projectors[1:]
        await wait_until(lambda: shares() == [4], 20)
    assert set(await spread.generations()) == {0}


async def test_with_one_partition_one_works_and_the_others_stand_by_ready(deployment: Deployment) -> None:
    async with AsyncExitStack() as stack:
        three = [await stack.enter_async_context(deployment.projecting()) for _ in range(3)]
        await wait_until(lambda: all(projector.ready for projector in three))
        assert sorted(len(projector.held) for projector in three) == [0, 0, 1]
        await deployment.publish(step(1))
        await deployment.settled()


async def test_a_projector_that_was_paused_longer_than_its_lease_comes_back_as_a_rival(spread: Deployment) -> None:
    async with projector_process(spread) as paused, traffic(spread):
        await wait_until(lambda: _all_held_by(spread, paused.pid), 20)
        paused.send_signal(signal.SIGSTOP)
        try:
            async with projector_process(spread) as other:
                await wait_until(lambda: _all_held_by(spread, other.pid), 20, "nobody took over")
                paused.send_signal(signal.SIGCONT)
                await wait_until(lambda: _is_shared(spread, [2, 2]), 20, "it got no share again")
        finally:
            paused.send_signal(signal.SIGCONT)
    assert set(await spread.generations()) == {0}


async def test_while_redis_is_away_everybody_keeps_its_share(own_redis: Server) -> None:
    """Leases run out meanwhile; the first to come back does not take everything."""
    gained = {"kind": "gained"}
    async with deployed(own_redis.address, "away", 4) as deployment, AsyncExitStack() as stack:
        two = [await stack.enter_async_context(deployment.projecting(lease_seconds=0.5)) for _ in range(2)]
        await wait_until(lambda: sorted(len(one.held) for one in two) == [2, 2])
        await wait_until(lambda: all(one.ready for one in two))
        before = [one.held for one in two], REGISTRY.get_sample_value("pipai_lease_changes_total", gained)
        async with traffic(deployment):
            await asyncio.to_thread(own_redis.kill)
            await asyncio.sleep(1)  # longer than the leases last
            await asyncio.to_thread(own_redis.start)
        after = [one.held for one in two], REGISTRY.get_sample_value("pipai_lease_changes_total", gained)
        assert after == before


class ToAndFro(Leases):
    """Holds everything at one moment and nothing at the next."""

    resting = False

    async def share(self, keeping: Iterable[int]) -> Share:
        self.ask_every = 0.001
        gives_up = self.resting or frozenset(keeping)
        return Share(frozenset() if gives_up else frozenset(range(self._keys.partitions)), None, was_away=False)


async def test_gaining_and_losing_a_partition_many_times_leaves_nothing_behind(deployment: Deployment) -> None:
    async def left() -> tuple[int, int, int]:
        """Tasks, subscribers and connections."""
        gc.collect()
        subscribers = sum(issubclass(type(thing), LogicSubscriber) for thing in gc.get_objects())
        return len(asyncio.all_tasks()), subscribers, len(await deployment.redis.client_list())

    async def to_and_fro(times: int) -> None:
        before, ToAndFro.resting = _changes("lost"), False
        await wait_until(lambda: _changes("lost") - before >= times, 60)
        ToAndFro.resting = True

    async def is_hardly_more_than_before() -> bool:
        """A few connections are kept for the next time; what stayed behind of each time would be many more."""
        return all(now < then + 10 for now, then in zip(await left(), first, strict=True))

    await deployment.publish(step(1))
    async with deployment.projecting(ToAndFro):
        await to_and_fro(3)
        await wait_until(lambda: REGISTRY.get_sample_value("pipai_held_partitions") == 0)
        first = await left()
        await to_and_fro(40)
        await wait_until(is_hardly_more_than_before)


def _changes(kind: str) -> float:
    return REGISTRY.get_sample_value("pipai_lease_changes_total", {"kind": kind}) or 0
