"""Services of this build as processes of a command, for as long as that lasts."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, Final

from services.admin.command import RefusedError

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STDERR: Final = 2
_PATIENCE: Final = 15.0
"""Seconds a service may take to end."""


@asynccontextmanager
async def running(modules: Sequence[str], environment: Mapping[str, str]) -> AsyncGenerator["Processes"]:
    """Run the modules in this environment, with what they log on stderr, for as long as the block.

    They end too when this process is killed. They import what this process imports, wherever it was called: a command
    of another checkout runs its services.
    """
    own = {**environment, "LOG_FORMAT": "text", "PYTHONPATH": os.pathsep.join(sys.path)}
    async with AsyncExitStack() as stack:
        processes: dict[str, asyncio.subprocess.Process] = {}
        for module in modules:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "services.admin.lifeline", module,
                env=own, stdin=asyncio.subprocess.PIPE, stdout=_STDERR, stderr=_STDERR,
                process_group=0,  # Ctrl-C is for the command, which then ends them in peace
            )  # fmt: skip
            processes[module] = process
            stack.push_async_callback(_end, process)
        stop = stack.enter_context(_stop_on_signals())
        yield Processes(processes, stop)


class Processes:
    """What runs, and whether somebody wants it to end."""

    def __init__(self, processes: Mapping[str, asyncio.subprocess.Process], stop: asyncio.Event) -> None:
        self._processes = processes
        self._stop = stop

    async def until(self, done: Coroutine[Any, Any, None]) -> bool:
        """Wait until this is done, or a signal says to stop; True when it is done.

        Raises:
            RefusedError: one of the processes ended.
        """
        work, stopped = asyncio.create_task(done), asyncio.create_task(self._stop.wait())
        ends = {asyncio.create_task(process.wait()): name for name, process in self._processes.items()}
        try:
            await asyncio.wait({work, stopped, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
                return True
            ended = [f"{name} with code {task.result()}" for task, name in ends.items() if task.done()]
            if ended and not stopped.done():
                raise RefusedError(f"a process ended: {', '.join(ended)}; its last lines say why")
            return False
        finally:
            for task in (work, stopped, *ends):
                task.cancel()
            await asyncio.gather(work, stopped, *ends, return_exceptions=True)


@contextmanager
def _stop_on_signals() -> Generator[asyncio.Event]:
    """An event that is set by Ctrl-C and its like; signals reach the main thread only."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    numbers = _STOP_SIGNALS if threading.current_thread() is threading.main_thread() else ()
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _PATIENCE)
    except TimeoutError:
        process.kill()
        await process.wait()
