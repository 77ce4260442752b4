"""A master dies in the middle of the load and a replica takes its place; what it lost with it is told."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from tests.conftest import wait_until
from tests.faults.round import round_of
from tests.faults.scale import Scale
from tests.shapes import servers
from tests.shapes.servers import Shape, connected


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
