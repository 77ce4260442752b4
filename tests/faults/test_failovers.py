"""A master dies in the middle of the load and a replica takes its place; what it lost with it is told."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from tests.conftest import wait_until
from tests.faults.checker import lost_by_redis
from tests.faults.crowd import MANY_TOPICS
from tests.faults.history import Generation, Received, Told
from tests.faults.round import round_of
from tests.faults.scale import Scale
from tests.shapes import servers
from tests.shapes.servers import Shape, connected

_UNHEARD_SECONDS = 0.5


@pytest.mark.parametrize(
    ("start", "partitions"), [(servers.sentinels, 1), (servers.cluster, 4)], ids=["Sentinel", "Cluster"]
)
async def test_a_failover_repeats_nothing_and_tells_what_it_lost(
    start: Callable[[Path], AbstractContextManager[Shape]],
    partitions: int,
    tmp_path: Path,
    scale: Scale,
    seed: int,
    tell: Callable[[list[str]], None],
) -> None:
    with start(tmp_path) as shape:
        async with round_of(tmp_path, scale, seed, shape.address, STREAM_PARTITIONS=str(partitions)) as it:
            await it.load(scale.seconds)
            dying = _holder(shape, it.keys.source("workflow:progress", 0).key)
            masters = len(shape.masters())
            async with it.fault("failover", loses=True):
                await asyncio.to_thread(shape.nodes[dying].kill)
                await wait_until(lambda: len(shape.masters()) == masters, 30, "no replica became master")
            await it.load(2 * scale.seconds)
            tell(await it.finish())


async def test_a_failover_tells_hundreds_of_viewers_what_it_lost(
    tmp_path: Path, scale: Scale, seed: int, tell: Callable[[list[str]], None]
) -> None:
    """The replica has not heard of the last half second; viewers of both api processes have seen it."""
    with servers.sentinels(tmp_path) as shape:
        async with round_of(tmp_path, replace(scale, apis=2), seed, shape.address) as it:
            crowd = [one for topic in MANY_TOPICS for one in await it.crowd.come(topic, scale.crowd)]
            await it.crowd.have_come(crowd)
            await it.load(scale.seconds)
            [dying] = shape.masters()
            have_seen = {one.viewer for one in it.history.happenings if isinstance(one, Received)}
            async with it.fault("failover", loses=True):
                await asyncio.to_thread(_cut_off_replica, shape, dying)
                await it.load(_UNHEARD_SECONDS)
                await asyncio.to_thread(shape.nodes[dying].kill)
                await wait_until(lambda: len(shape.masters()) == 1, 30, "no replica became master")
            await it.load(2 * scale.seconds)
            tell([*await it.finish(), f"{len(crowd)} viewers"])
    assert lost_by_redis(it.history.happenings, it.keys)
    told = Counter(one.viewer for one in it.history.happenings if isinstance(one, Told))
    assert len(have_seen) > len(crowd) / 2
    assert have_seen <= told.keys(), "who watches a topic without an event has nothing to be told"
    raised = [one for one in it.history.happenings if isinstance(one, Generation)]
    assert max(told.values()) <= 1 + len(raised), "once for what is gone, and once for each time the system says so"


def _cut_off_replica(shape: Shape, master: int) -> None:
    """Have the only replica lose its master, which does not let it in again."""
    [replica] = shape.replicas(master)
    shape.ask(replica, "CONFIG", "SET", "masterauth", "another")
    shape.ask(master, "CLIENT", "KILL", "TYPE", "replica")


def _holder(shape: Shape, key: str) -> int:
    """The port of the master that has this key."""
    for port in shape.masters():
        with connected(port, shape.password) as node:
            try:
                if node.exists(key):
                    return port
            except RedisError:
                continue
    pytest.fail(f"no master has {key}")
