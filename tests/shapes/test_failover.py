"""A master dies in the middle of the traffic and a replica takes its place."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest
from redis.exceptions import RedisError, ResponseError

from core.log.keys import GROUP
from tests.conftest import wait_until
from tests.projector.conftest import Deployment, deployed
from tests.projector.fresh_fold import is_projected, read_log
from tests.shapes import servers
from tests.shapes.servers import Shape, connected
from tests.shapes.traffic import Traffic

HEALED_WITHIN = 20
BUSY_SHARE = 0.4


@asynccontextmanager
async def projector_process(deployment: Deployment) -> AsyncGenerator[psutil.Process]:
    """A projector as a process of its own, whose processor time can be looked at."""
    environment = {
        **os.environ,
        "REDIS_URL": deployment.settings.redis_address(),
        "KEY_PREFIX": deployment.keys.prefix,
        "STREAM_PARTITIONS": str(deployment.keys.partitions),
        "STREAM_MAX_ENTRIES": "100000",
        "METRICS_PORT": "0",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.projector", env=environment)
    try:
        yield psutil.Process(process.pid)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def processor_time(process: psutil.Process) -> float:
    """Seconds of processor time the process has used."""
    times = process.cpu_times()
    return times.user + times.system


@pytest.mark.parametrize(
    ("start", "partitions"), [(servers.sentinels, 1), (servers.cluster, 4)], ids=["Sentinel", "Cluster"]
)
async def test_traffic_goes_on_with_the_new_master_and_what_it_kept_is_in_every_view(
    start: Callable[[Path], AbstractContextManager[Shape]], partitions: int, tmp_path: Path
) -> None:
    with start(tmp_path) as shape:
        async with (
            deployed(shape.address, "failover", partitions) as deployment,
            projector_process(deployment) as projector,
        ):
            await wait_until(lambda: _everything_is_followed(deployment), 20, "the projector did not begin")
            traffic = Traffic(deployment.appender)
            publishing = asyncio.create_task(traffic.run())
            await wait_until(lambda: traffic.all_since(0) and len(traffic.acknowledged) > 500, 20)

            dying = _holder(shape, deployment)
            masters = len(shape.masters())
            await asyncio.to_thread(shape.nodes[dying].kill)
            began, used = time.monotonic(), processor_time(projector)
            await wait_until(lambda: len(shape.masters()) == masters, 30, "no replica became master")
            there = time.monotonic()
            busy = (processor_time(projector) - used) / (there - began)
            await wait_until(lambda: traffic.all_since(there), HEALED_WITHIN, "not every stream takes events again")

            traffic.stopping.set()
            await publishing
            await wait_until(lambda: is_projected(deployment.redis, deployment.keys), HEALED_WITHIN)
            await _assert_all_kept_events_are_in_the_views(deployment, traffic)
            assert busy < BUSY_SHARE


async def _everything_is_followed(deployment: Deployment) -> bool:
    """Whether somebody reads every source for the group."""
    for source in deployment.keys.sources():
        with suppress(ResponseError):
            if await deployment.redis.xinfo_consumers(source.key, GROUP):
                continue
        return False
    return True


def _holder(shape: Shape, deployment: Deployment) -> int:
    """The port of a master that has views, and in a Cluster sources too, so it must be missed."""
    key = deployment.keys.changes(0)
    for port in shape.masters():
        with connected(port, shape.password) as node, suppress(RedisError):
            if node.exists(key):
                return port
    pytest.fail(f"no master has {key}")


async def _assert_all_kept_events_are_in_the_views(deployment: Deployment, traffic: Traffic) -> None:
    """Exactly those, when all were kept; what was lost, though acknowledged, has to be told by a generation."""
    kept = {record.envelope.event_id for record in await read_log(deployment.redis, deployment.keys)}
    lost = set(traffic.acknowledged) - kept
    if lost:
        assert any(await deployment.generations()), f"{len(lost)} acknowledged events were lost and nobody was told"
    else:
        await deployment.settled()
