"""Several processes of one service behind one port, with one scrape of their metrics.

The parent opens the port and serves nobody itself. Its workers are the same program started again, each with a socket
of its own on that port. One that dies is replaced, and whoever waits at its socket is served by the next; a signal is
passed on, so that each drains.
"""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import (
    MultiProcessCollector,
    mark_process_dead,  # pyright: ignore[reportUnknownVariableType]
)

from core.runtime.exits import UNFIT
from core.runtime.logs import get_logger
from core.runtime.metrics import metrics_server
from core.runtime.worker import Beats, Worker

_PAUSE: Final = 1.0
"""Seconds until a worker that ended is started again: one that cannot start does not take the machine."""

log = get_logger()


class Workers:
    """The worker processes of one service, one for each of ``sockets``."""

    def __init__(self, module: str, sockets: Sequence[socket.socket], folder: Path) -> None:
        self._command = [sys.executable, "-m", "core.runtime.as_worker", module]
        self._sockets = sockets
        self._folder = folder
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._code = 0
        self.beats = Beats(folder, len(sockets))

    async def run(self) -> int:
        """Keep all of them at work until told to stop.

        Returns the exit code: 0, 1 when one did not end well, `UNFIT` when one said that.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        await asyncio.gather(*(self._keep_running(number) for number in range(len(self._sockets))))
        return self._code

    def _stop(self) -> None:
        """Have all of them drain; a second time, end at once."""
        self._stopping.set()
        for worker in self._running.values():
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGTERM)
        for listener in self._sockets:
            listener.close()  # the workers have it too: the port is closed when the last of them closes it

    async def _keep_running(self, number: int) -> None:
        while not self._stopping.is_set():
            code = await self._run_once(number)
            self.beats.forget(number)
            mark_process_dead(number, str(self._folder))
            if code == UNFIT:
                self._code = UNFIT
                self._stop()  # until somebody changes a setting none of them can work
            elif not self._stopping.is_set():
                log.error("worker ended, and is started again", worker=number, code=code)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _PAUSE)
            elif code not in {0, -signal.SIGTERM}:  # the signal itself ends one that had not begun to serve
                log.error("worker ended badly", worker=number, code=code)
                self._code = self._code or 1

    async def _run_once(self, number: int) -> int:
        file = self._sockets[number].fileno()
        own = Worker(number, len(self._sockets), file, self._folder).environment()
        worker = await asyncio.create_subprocess_exec(
            *self._command,
            env={**os.environ, **own},
            pass_fds=[file],
            stdin=asyncio.subprocess.PIPE,
            process_group=0,  # else Ctrl-C would reach it twice, and a second signal ends its drain
        )
        self._running[number] = worker
        if self._stopping.is_set():
            worker.terminate()
        try:
            return await worker.wait()
        finally:
            del self._running[number]


def serve_by_workers(module: str, count: int, address: tuple[str, int], metrics: tuple[str, int]) -> int:
    """Run ``python -m module`` in so many processes on one address until told to stop; returns the exit code.

    Raises:
        PortBusyError: another program has the port of the metrics.
        OSError: another program has the address.
    """
    with tempfile.TemporaryDirectory(prefix="pipai-workers-") as folder, _bound(address, count) as sockets:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)  # pyright: ignore[reportUnknownMemberType]
        workers = Workers(module, sockets, Path(folder))
        with metrics_server(*metrics, ready=workers.beats.missing, registry=registry):
            return asyncio.run(workers.run())


@contextmanager
def _bound(address: tuple[str, int], count: int) -> Generator[list[socket.socket]]:
    """So many sockets on the address, which their workers listen on.

    Linux gives each its share of the connections. Elsewhere all share one, and it is chance who takes the next.
    """
    apart = sys.platform == "linux"
    with ExitStack() as stack:
        with _bind(address, apart=False) as first:  # fails where another program has the port, ours included
            address = (address[0], first.getsockname()[1])
            shared = None if apart else stack.enter_context(first.dup())
        yield [shared or stack.enter_context(_bind(address, apart=True)) for _ in range(count)]


def _bind(address: tuple[str, int], *, apart: bool) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if apart:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
