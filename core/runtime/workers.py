"""Several processes of one service behind one port, with one scrape of their metrics.

The parent opens the port and serves nobody itself. Its workers are the same program started again, each with the open
socket: whoever is free takes the next connection. One that dies is replaced; a signal is passed on, so that each
drains.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import (
    MultiProcessCollector,
    mark_process_dead,  # pyright: ignore[reportUnknownVariableType]
)

from core.runtime.exits import UNFIT
from core.runtime.logs import get_logger
from core.runtime.metrics import metrics_server

SOCKET: Final = "PIPAI_WORKER_SOCKET"
"""Set for a worker: the file number of the socket it serves."""

_METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
_LOOK_EVERY: Final = 0.2
_AGAIN_AFTER: Final = 1.0
"""Seconds a worker lives at least before it is replaced at once: one that cannot start must not be started for ever."""

_BACKLOG: Final = 2048

log = get_logger()


def worker_socket() -> socket.socket | None:
    """The socket this process serves as a worker; None when it is none."""
    number = os.environ.get(SOCKET)
    return None if number is None else socket.socket(fileno=int(number))


class Workers:
    """The worker processes of one service."""

    def __init__(self, module: str, count: int, listener: socket.socket, metrics: Path) -> None:
        self._command = [sys.executable, "-m", module]
        self._count = count
        self._listener = listener
        self._metrics = metrics
        self._started: dict[subprocess.Popen[bytes], float] = {}
        self._stopping = False

    def run(self) -> int:
        """Keep as many as wanted at work until told to stop; returns the exit code: 0, or that of who ended badly."""
        codes: list[int] = []
        with self._signals():
            while not self._stopping or self._started:
                codes += self._reap()
                if not self._stopping and UNFIT in codes:
                    self._stop()  # until somebody changes a setting none of them can work
                while not self._stopping and len(self._started) < self._count:
                    self._start()
                time.sleep(_LOOK_EVERY)
        return max(codes, default=0)

    def ready(self) -> str | None:
        """Why not all of them are there; None when they are."""
        alive = sum(worker.poll() is None for worker in self._started)
        return None if alive == self._count else f"{alive} of {self._count} workers run"

    def _start(self) -> None:
        number = self._listener.fileno()
        environment = {**os.environ, SOCKET: str(number), _METRICS_FOLDER: str(self._metrics)}
        worker = subprocess.Popen(self._command, env=environment, pass_fds=[number])  # noqa: S603 - this very program
        self._started[worker] = time.monotonic()

    def _reap(self) -> Sequence[int]:
        """Forget those that ended; exit codes that are to be told of."""
        codes: list[int] = []
        for worker in [worker for worker in self._started if worker.poll() is not None]:
            lived = time.monotonic() - self._started.pop(worker)
            mark_process_dead(worker.pid, str(self._metrics))
            if self._stopping and worker.returncode == -signal.SIGTERM:
                continue  # it had not begun to serve
            if self._stopping or worker.returncode == UNFIT:
                codes.append(abs(worker.returncode))
            else:
                log.error("worker ended", pid=worker.pid, code=worker.returncode)
                time.sleep(max(0.0, _AGAIN_AFTER - lived))
        return codes

    def _stop(self) -> None:
        self._stopping = True
        for worker in self._started:
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGTERM)

    @contextmanager
    def _signals(self) -> Generator[None]:
        def pass_on(_number: int, _frame: FrameType | None) -> None:
            self._stop()

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve_by_workers(module: str, count: int, address: tuple[str, int], metrics: tuple[str, int]) -> int:
    """Run ``python -m module`` in so many processes on one address until told to stop; returns the exit code.

    Raises:
        PortBusyError: another program has the port of the metrics.
        OSError: another program has the address.
    """
    with tempfile.TemporaryDirectory(prefix="pipai-metrics-") as folder, _listening(address) as listener:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)  # pyright: ignore[reportUnknownMemberType]
        workers = Workers(module, count, listener, Path(folder))
        with metrics_server(*metrics, ready=workers.ready, registry=registry):
            return workers.run()


@contextmanager
def _listening(address: tuple[str, int]) -> Generator[socket.socket]:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.create_server(address, family=family, backlog=_BACKLOG) as listener:
        listener.set_inheritable(True)
        yield listener
