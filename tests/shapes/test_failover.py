"""A master dies in the middle of the traffic and a replica takes its place."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from redis.exceptions import RedisError, ResponseError

from core.log.errors import LogUnavailableError
from core.log.keys import GROUP
from services.api.settings import ApiSettings
from tests.api.conftest import serving
from tests.api.stream import Stream
from tests.conftest import wait_until
from tests.core.telling import step
from tests.projector.conftest import Deployment, deployed
from tests.projector.fresh_fold import is_projected, read_log
from tests.shapes import servers
from tests.shapes.conftest import settings_of
from tests.shapes.servers import Shape, connected
from tests.shapes.traffic import Traffic

HEALED_WITHIN = 20
"""Seconds. Twice the 10 within which all is to go on after a failover: the machine may be busy."""


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let projectors of the test's own process look for a new master without waiting for seconds."""
    monkeypatch.setattr("core.views.failover._LOOK_EVERY", 0.2)


@asynccontextmanager
async def projector_process(deployment: Deployment) -> AsyncGenerator[None]:
    """A projector as a process of its own."""
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
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@pytest.mark.parametrize(
    ("start", "partitions"), [(servers.sentinels, 1), (servers.cluster, 4)], ids=["Sentinel", "Cluster"]
)
async def test_traffic_goes_on_with_the_new_master_and_what_it_kept_is_in_every_view(
    start: Callable[[Path], AbstractContextManager[Shape]], partitions: int, tmp_path: Path
) -> None:
    with start(tmp_path) as shape:
        async with deployed(shape.address, "failover", partitions) as deployment, projector_process(deployment):
            await wait_until(lambda: _everything_is_followed(deployment), 20, "the projector did not begin")
            traffic = Traffic(deployment.appender)
            publishing = asyncio.create_task(traffic.run())
            await wait_until(lambda: traffic.all_since(0) and len(traffic.acknowledged) > 500, 20)

            dying = _holder(shape, deployment)
            masters = len(shape.masters())
            await asyncio.to_thread(shape.nodes[dying].kill)
            await wait_until(lambda: len(shape.masters()) == masters, 30, "no replica became master")
            there = time.monotonic()
            await wait_until(lambda: traffic.all_since(there), HEALED_WITHIN, "not every stream takes events again")

            traffic.stopping.set()
            await publishing
            await wait_until(lambda: is_projected(deployment.redis, deployment.keys), HEALED_WITHIN)
            await _assert_all_kept_events_are_in_the_views(deployment, traffic)


async def _everything_is_followed(deployment: Deployment) -> bool:
    """Whether somebody reads every source for the group."""
    for source in deployment.keys.sources():
        with suppress(ResponseError):
            if await deployment.redis.xinfo_consumers(source.key, GROUP):
                continue
        return False
    return True


def _holder(shape: Shape, deployment: Deployment) -> int:
    """The port of a master that has part of the log, so it must be missed."""
    key = deployment.source().key
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


async def test_viewers_are_told_of_events_the_new_master_never_had(tmp_path: Path) -> None:
    """The replica gets nothing for a while; then the master dies with what it alone had acknowledged."""
    with servers.sentinels(tmp_path) as shape:
        (master,) = shape.masters()
        (replica,) = shape.nodes.keys() - {master}
        async with (
            deployed(shape.address, "loss", 1) as deployment,
            deployment.projecting(),
            serving(ApiSettings(**settings_of(shape, "loss"))) as api,
        ):
            await wait_until(api.ready)
            async with api.watching("/stream/workflow/w") as stream:
                await deployment.publish(step(1), step(2))
                await wait_until(lambda: shape.ask(master, "WAIT", "1", "1000") == 1)
                await deployment.settled()
                halted = _process_of(shape, replica)
                os.kill(halted, signal.SIGSTOP)
                # Without this the buffers of its connection would bring it what it misses.
                shape.ask(master, "CLIENT KILL", "TYPE", "replica")
                before = _counted_losses()
                lost = await deployment.publish(step(3), step(4))
                await wait_until(lambda: is_projected(deployment.redis, deployment.keys))
                await wait_until(lambda: _last_pos(stream) == 4)

                await asyncio.to_thread(shape.nodes[master].kill)
                os.kill(halted, signal.SIGCONT)
                await wait_until(lambda: shape.masters() == [replica], 30, "the replica did not become master")
                await wait_until(lambda: _counted_losses() > before, HEALED_WITHIN)
                await wait_until(lambda: any(frame.event == "reset" for frame in stream.frames), HEALED_WITHIN)
                await wait_until(lambda: _publishes(deployment), HEALED_WITHIN)
                await deployment.settled()
                await wait_until(lambda: _shows(stream, "after"))

            kept = {record.envelope.event_id for record in await read_log(deployment.redis, deployment.keys)}
            assert not kept & {one.event_id for one in lost}


def _counted_losses() -> float:
    return REGISTRY.get_sample_value("pipai_view_regressions_total", {"reason": "lost"}) or 0


def _shows(stream: Stream, name: str) -> bool:
    data = stream.frames[-1].data
    return data is not None and data.get("step") == name


def _last_pos(stream: Stream) -> int:
    return max((frame.pos for frame in stream.frames), default=0)


def _process_of(shape: Shape, port: int) -> int:
    return int(shape.ask(port, "INFO", "server")["process_id"])


async def _publishes(deployment: Deployment) -> bool:
    with suppress(LogUnavailableError):
        await deployment.publish(step(5, "after"))
        return True
    return False
