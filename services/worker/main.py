"""The worker as a process: ``python -m services.worker``."""

import asyncio
import signal
from contextlib import AsyncExitStack

from temporalio.envconfig import ClientConnectConfig

from core.log.layout import LayoutError
from core.runtime.exits import UNFIT
from core.runtime.logs import configure_logging, get_logger
from core.runtime.metrics import PortBusyError, metrics_server
from core.runtime.temporal import temporal_target
from services.worker.compose import compose_activities, compose_worker
from services.worker.connect import wait_for_temporal
from services.worker.settings import WorkerSettings


async def _serve(settings: WorkerSettings, target: ClientConnectConfig) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    missing: str | None = "waiting for Temporal"
    async with AsyncExitStack() as stack:
        stack.enter_context(metrics_server(settings.metrics_host, settings.metrics_port, ready=lambda: missing))
        activities = compose_activities(settings, stack)
        await activities.publisher.begin()
        working = asyncio.create_task(wait_for_temporal(target))
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            return
        async with compose_worker(working.result(), settings, activities):
            missing = None
            get_logger().info("worker ready", queue=settings.temporal_task_queue, ai=activities.analyst.model)
            await stopped
            missing = "stopping"


def main() -> int:
    """Run until told to stop; 2 when a setting is missing or does not fit Redis, 1 when the worker cannot go on."""
    settings = WorkerSettings()
    configure_logging("worker", settings)
    target = temporal_target(settings)
    if target is None:
        get_logger().error("Temporal is not configured: set TEMPORAL_ADDRESS to its host:port")
        return UNFIT
    try:
        asyncio.run(_serve(settings, target))
    except LayoutError as error:
        get_logger().error("worker stops", reason=str(error))
        return UNFIT
    except (PortBusyError, ValueError) as error:
        get_logger().error("worker stops", reason=str(error))
        return 1
    return 0
