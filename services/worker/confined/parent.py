"""The side that asks: items come one by one, while the confined process still works."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import asdict
from typing import Any, Final, ParamSpec, TypeVar, cast

from core.documents import DocumentError, TooLargeError
from services.worker.confined.frames import read_frame
from services.worker.confined.limits import Limits

_P = ParamSpec("_P")
_Item = TypeVar("_Item")

_ERRORS: Final[dict[str, type[DocumentError]]] = {
    error.__name__: error for error in (DocumentError, *DocumentError.__subclasses__())
}
_TIME_SIGNALS: Final = {-signal.SIGXCPU, -signal.SIGALRM}


class ConfinedCrashError(RuntimeError):
    """A confined process ended without saying why: ended from outside, or by a fault of ours."""


async def confined(
    limits: Limits, produce: Callable[_P, Iterator[_Item]], *args: _P.args, **kwargs: _P.kwargs
) -> AsyncGenerator[_Item, None]:
    """What ``produce(*args, **kwargs)`` yields, made in a process of its own.

    ``produce`` is a function of a module; what goes in and out are JSON values. Closing the generator, or
    cancelling whoever waits for it, ends the process.

    Raises:
        DocumentError: as ``produce`` raised it; `TooLargeError` also when it needed more than its limits.
        ConfinedCrashError: the process ended without an answer.
    """
    task: dict[str, Any] = {
        "module": produce.__module__,
        "function": produce.__name__,
        "args": args,
        "kwargs": kwargs,
        "limits": asdict(limits),
    }
    process = await _start()
    try:
        deadline = asyncio.get_running_loop().time() + limits.seconds
        await _send(process, task)
        while (frame := await _next_frame(process, deadline)) is not None:
            if "end" in frame:
                return
            if "error" in frame:
                raise _ERRORS.get(str(frame["error"]), DocumentError)(str(frame["message"]))
            if "fault" in frame:
                raise ConfinedCrashError(str(frame["fault"]))
            yield cast("_Item", frame["item"])
        raise _crash(await process.wait())
    finally:
        await _end(process)


async def _start() -> Process:
    """A fresh interpreter rather than a fork: it inherits no secret, no connection and no lock."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "services.worker.confined.child",
        stdin=PIPE,
        stdout=PIPE,
        # each thread of OpenBLAS reserves address space, which is limited
        env={**kept, "PYTHONUTF8": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


async def _send(process: Process, task: dict[str, Any]) -> None:
    stdin = process.stdin
    if stdin is None:
        raise ConfinedCrashError("the process has no input")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its exit code will say more
        stdin.write(json.dumps(task).encode())
        await stdin.drain()
        stdin.close()


async def _next_frame(process: Process, deadline: float) -> dict[str, Any] | None:
    if process.stdout is None:
        return None
    try:
        async with asyncio.timeout_at(deadline):
            return await read_frame(process.stdout)
    except TimeoutError:
        raise _too_slow() from None


def _too_slow() -> TooLargeError:
    return TooLargeError("Reading the document takes longer than is allowed.")


def _crash(code: int) -> Exception:
    if code in _TIME_SIGNALS:
        return _too_slow()
    return ConfinedCrashError(f"the process that read the document ended with code {code}")


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await asyncio.shield(process.wait())
