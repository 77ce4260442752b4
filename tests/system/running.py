"""The real system as a process of its own, on free ports and in a folder of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from services.standalone.state import SystemState, read_state
from tests.conftest import wait_until

NOT_OURS = ("REDIS_", "UPSTASH_", "TEMPORAL_", "STORAGE_", "OPENAI_", "METRICS_", "STREAM_", "KEY_")
FREE_PORTS = {"PORT": "0", "METRICS_PORT": "0", "REDIS_PORT": "0", "TEMPORAL_PORT": "0", "TEMPORAL_UI_PORT": "0"}


def environment(**settings: str) -> dict[str, str]:
    """The environment without any setting of the system, then free ports, then the given settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}
    return {**kept, **FREE_PORTS, **settings}


def command(*arguments: str) -> list[str]:
    """What `./run` hands over to."""
    return [sys.executable, "-m", "services.standalone", *arguments]


class System:
    """`./run up` in `folder`, with `arguments` and `settings` if need be.

    `async with System(folder) as system` waits until all is ready, and stops it.
    """

    def __init__(self, folder: Path, *arguments: str, **settings: str) -> None:
        self.folder = folder
        self.home = folder / ".pipai"
        self._arguments = arguments
        self._settings = settings
        self._terminal = folder / "terminal.txt"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> SystemState:
        """What `./run status` knows."""
        state = read_state(self.home)
        assert state is not None
        return state

    @property
    def address(self) -> str:
        """`http://host:port` of pages and API."""
        return self.state.address

    @property
    def shown(self) -> str:
        """What a person at the terminal has seen so far."""
        return self._terminal.read_text()

    async def start(self, seconds: float = 90) -> None:
        """Start it, and wait until all is ready."""
        with self._terminal.open("ab") as terminal:
            self._process = subprocess.Popen(  # noqa: ASYNC220
                command("up", *self._arguments),
                cwd=self.folder,
                env=environment(**self._settings),
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=terminal,
            )
        await wait_until(self._is_ready, seconds, "the system did not become ready")

    async def stop(self) -> int:
        """Ctrl-C, and the exit code."""
        assert self._process
        process, self._process = self._process, None
        process.send_signal(signal.SIGINT)
        await wait_until(lambda: process.poll() is not None, 10, "the system did not stop")
        return process.wait()

    def kill(self) -> None:
        """SIGKILL to the supervisor alone."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            sys.stdout.write(self.shown)
            self.kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            await self.stop()

    def _is_ready(self) -> bool:
        assert self._process
        assert self._process.poll() is None, self.shown
        state = read_state(self.home)
        return state is not None and state.ready and state.pid == self._process.pid
