"""One service as a child process: started under a guard, watched until it is ready, started again when it dies."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import psutil

from core.runtime.exits import UNFIT
from services.standalone.guard import guarded
from services.standalone.output import Output

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 30.0
STEADY: Final = 30.0
"""Seconds after which a service counts as having run well: its next end starts with the first pause again."""

UNFIT_ENDS: Final = 5
"""A wrong setting does not heal: after so many ends with `UNFIT` in a row nothing more is tried."""

CANNOT_START: Final = 127
PROBE_PAUSE: Final = 0.1


class State(StrEnum):
    """What a service does right now."""

    STARTING = "starting"
    READY = "ready"
    PAUSING = "waiting to start again"
    GAVE_UP = "gave up"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Service:
    """What to run, where it can be reached, and how to ask (blocking, within seconds) whether it is ready."""

    name: str
    command: list[str]
    address: str
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


class Child:
    """A service that is kept running until `stop`."""

    def __init__(self, service: Service, output: Output, changed: Callable[[], None]) -> None:
        self.service = service
        self.state = State.STARTING
        self.pid: int | None = None
        self.restarts = 0
        self.settled = asyncio.Event()
        """Set once the service was ready or was given up."""
        self._output = output
        self._changed = changed
        self._stopping = asyncio.Event()
        self._guard: asyncio.subprocess.Process | None = None

    async def keep_running(self) -> None:
        """Run the service, again and again, until `stop` is called or its settings are plainly wrong."""
        failures = unfit_ends = 0
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            began = clock()
            code = await self._run_once()
            if self._stopping.is_set():
                break
            unfit_ends = unfit_ends + 1 if code == UNFIT else 0
            if unfit_ends == UNFIT_ENDS:
                self._tell(f"ended {UNFIT_ENDS} times because of its settings; it is not started again")
                self._become(State.GAVE_UP)
                self.settled.set()
                return
            failures = 0 if clock() - began > STEADY else failures
            pause = min(FIRST_PAUSE * 2**failures, LONGEST_PAUSE)
            failures += 1
            self.restarts += 1
            self._tell(f"ended with code {code}; it is started again in {pause:g} s")
            self._become(State.PAUSING)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
        self._become(State.STOPPED)

    def ask_to_stop(self) -> None:
        """Send SIGTERM, and start nothing any more."""
        self._stopping.set()
        if self._guard is not None and self._guard.returncode is None:
            with suppress(ProcessLookupError):
                self._guard.terminate()

    def kill(self) -> None:
        """End the service, and everything it started, at once."""
        if self._guard is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._guard.pid, signal.SIGKILL)

    async def _run_once(self) -> int:
        """Start the service once and return the exit code it ends with."""
        # A pipe of our own: asyncio's would not report the end as long as a process left behind holds it open.
        read_end, write_end = os.pipe()
        try:
            self._guard = await asyncio.create_subprocess_exec(
                *guarded(self.service.command),
                stdin=asyncio.subprocess.PIPE,
                stdout=write_end,
                stderr=write_end,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.service.environment},
                process_group=0,
            )
        except OSError as error:
            os.close(read_end)
            self._tell(f"could not be started: {error.strerror}")
            return CANNOT_START
        finally:
            os.close(write_end)
        reading = asyncio.create_task(self._output.copy(self.service.name, read_end))
        self._become(State.STARTING)
        if self._stopping.is_set():
            self.ask_to_stop()
        probing = asyncio.create_task(self._until_ready(self._guard.pid))
        code = await self._guard.wait()
        probing.cancel()
        self.kill()
        await reading
        self.pid = None
        return code

    async def _until_ready(self, guard: int) -> None:
        while self.pid is None or not await asyncio.to_thread(self.service.ready):
            await asyncio.sleep(PROBE_PAUSE)
            self.pid = _child_of(guard)
        self._become(State.READY)
        self.settled.set()

    def _become(self, state: State) -> None:
        self.state = state
        self._changed()

    def _tell(self, what: str) -> None:
        self._output.say(f"{self.service.name} {what}")


def _child_of(guard: int) -> int | None:
    with suppress(psutil.Error):
        return next((process.pid for process in psutil.Process(guard).children()), None)
    return None
