"""Small programs that stand in for services, and a supervisor over them."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from io import StringIO
from pathlib import Path

import psutil
import pytest

from services.standalone.child import Child, Service
from services.standalone.output import Output
from services.standalone.supervisor import Supervisor

PATIENT = "import time; print('here', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {PATIENT}"


class Running:
    """A supervisor at work. `shown` is what a person at the terminal has seen so far."""

    def __init__(self, folder: Path, stages: list[list[Service]]) -> None:
        self.folder = folder
        self.terminal = StringIO()
        self.output = Output(folder, self.terminal)
        self.changes: list[list[tuple[str, str]]] = []
        self.supervisor = Supervisor(stages, self.output, self._changed)
        self.ready = asyncio.Event()
        self.task = asyncio.create_task(self.supervisor.run(self.ready.set))

    @property
    def shown(self) -> str:
        return self.terminal.getvalue()

    def child(self, name: str) -> Child:
        return next(child for child in self.supervisor.children if child.service.name == name)

    async def stop(self) -> None:
        self.supervisor.stop()
        await self.task
        self.output.close()

    def _changed(self, children: list[Child]) -> None:
        self.changes.append([(child.service.name, child.state.value) for child in children])


Start = Callable[..., Running]


def program(name: str, code: str, ready: Callable[[], bool] = lambda: True) -> Service:
    """A service that is a few lines of Python."""
    return Service(name, [sys.executable, "-c", code], "nowhere", ready)


def lives(process: psutil.Process) -> bool:
    """Whether a process still runs. An ended one whose new parent does not ask for its exit code does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
async def supervise(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a supervisor over the given stages; what still runs after the test is stopped."""
    started: list[Running] = []

    def start(*stages: list[Service]) -> Running:
        started.append(Running(tmp_path / "logs", list(stages)))
        return started[-1]

    yield start
    for running in started:
        await running.stop()
