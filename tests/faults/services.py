"""Services as processes of their own, to be killed, paused and told to stop."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import psutil

from core.runtime.ports import free_port
from services.standalone.guard import guarded
from tests.conftest import wait_until
from tests.system.running import environment

_START_SECONDS = 60
_STOP_SECONDS = 20
_ASK_EVERY = 0.1
"""Seconds between two questions: asked all the time, they would take from what the services start with."""


class Service:
    """``python -m <module>`` on ports of its own; its log lines are in ``<folder>/<module>-<port>.log``."""

    def __init__(self, module: str, folder: Path, settings: Mapping[str, str]) -> None:
        self.module = module
        self.port = free_port()
        self.metrics_port = free_port()
        self.log = folder / f"{module}-{self.metrics_port}.log"
        ports = {"PORT": str(self.port), "METRICS_PORT": str(self.metrics_port)}
        self._environment = environment(**{**settings, **ports})
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process; it is not ready yet. Its guard ends it when this test run is gone, however that ended."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *guarded([sys.executable, "-m", self.module]),
                env=self._environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    async def ready(self) -> None:
        """Wait until it says that it is."""
        async with httpx2.AsyncClient() as client:
            await wait_until(lambda: self._is_ready(client), _START_SECONDS, f"{self.log} has no word of being ready")

    async def kill(self) -> None:
        """SIGKILL, as a crash is one."""
        if self._process is not None:
            process, self._process = self._process, None
            _send(process, signal.SIGKILL)
            await process.wait()

    async def stop(self) -> None:
        """SIGTERM; it must end well, also when it was ended already."""
        if self._process is not None:
            _send(self._process, signal.SIGCONT)
            with suppress(ProcessLookupError):  # it ended by itself: its code says so
                self._process.terminate()
            code = await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
            self._process = None
            assert code == 0, f"{self.module} ended with {code}: {self.log.read_text()[-2000:]}"

    def pause(self) -> None:
        """SIGSTOP: nothing moves, and connections stay open."""
        assert self._process
        _send(self._process, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process
        _send(self._process, signal.SIGCONT)

    def processor_seconds(self) -> float:
        """Processor time it has used so far, its guard's included."""
        assert self._process
        guard = psutil.Process(self._process.pid)
        times = [one.cpu_times() for one in (guard, *guard.children(recursive=True))]
        return sum(one.user + one.system for one in times)

    def private_bytes(self) -> int:
        """Resident memory of its processes that nobody else has, its guard's included."""
        assert self._process
        guard = psutil.Process(self._process.pid)
        return sum(one.memory_full_info().uss for one in (guard, *guard.children(recursive=True)))

    async def counted(self, metric: str) -> float:
        """A counter of the process, summed over its labels."""
        async with httpx2.AsyncClient() as client:
            text = (await client.get(f"http://127.0.0.1:{self.metrics_port}/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith((f"{metric} ", f"{metric}{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def _is_ready(self, client: httpx2.AsyncClient) -> bool:
        assert self._process
        assert self._process.returncode is None, self.log.read_text()[-2000:]
        with suppress(httpx2.TransportError):
            if (await client.get(f"http://127.0.0.1:{self.metrics_port}/readyz")).status_code == 200:
                return True
        await asyncio.sleep(_ASK_EVERY)
        return False


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Send a signal to the service and its guard."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@asynccontextmanager
async def started(*services: Service) -> AsyncGenerator[None]:
    """The services at work; at the end they are told to stop."""
    try:
        await asyncio.gather(*(service.start() for service in services))
        await asyncio.gather(*(service.ready() for service in services))
        yield
        await asyncio.gather(*(service.stop() for service in services))
    finally:
        await asyncio.gather(*(service.kill() for service in services))
