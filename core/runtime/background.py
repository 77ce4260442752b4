"""A process without HTTP of its own: it works in the background until it is told to stop."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Protocol

from core.runtime.logs import get_logger
from core.runtime.metrics import metrics_server
from core.runtime.redis import safe_address
from core.runtime.settings import Settings


class Work(Protocol):
    """What the process does."""

    @property
    def ready(self) -> bool:
        """Whether it does all it should."""
        ...

    def running(self) -> AbstractAsyncContextManager[None]:
        """Do it while the block runs."""
        ...


async def work_until_stopped(
    name: str, settings: Settings, port: int, build: Callable[[AsyncExitStack], Work], *, missing: str
) -> None:
    """Do the work, with metrics and probes on ``port``, until SIGINT or SIGTERM.

    ``build`` puts it together, with connections that close with the stack; ``missing`` is said while it is not ready.

    Raises:
        PortBusyError: another program has the port of the metrics.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        work = build(stack)
        probe = metrics_server(settings.metrics_host, port, ready=lambda: None if work.ready else missing)
        stack.enter_context(probe)
        async with work.running():
            get_logger().info(f"stream {name} started", redis=safe_address(settings.redis_address()))
            await stop.wait()
