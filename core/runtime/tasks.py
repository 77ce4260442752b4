"""Work that goes on in the background while a block runs."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from core.runtime.logs import get_logger

_ASK_AGAIN: Final = 0.2

T = TypeVar("T")

log = get_logger()


@asynccontextmanager
async def running(*work: Awaitable[None]) -> AsyncGenerator[None]:
    """Run the work while the block does; at its end cancel it and wait until it has ended."""
    tasks = [asyncio.ensure_future(part) for part in work]
    for task in tasks:
        task.add_done_callback(report_failure)
    try:
        yield
    finally:
        await end(tasks)


async def together(work: Iterable[Awaitable[T]]) -> list[T]:
    """What all of them come to; when one fails the others are ended, and its error is raised."""
    tasks = [asyncio.ensure_future(part) for part in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await end(tasks)


def report_failure(work: asyncio.Future[Any]) -> None:
    """Log what ended the work, if anything did: nobody waits for it, and it is not done any more."""
    if not work.cancelled() and (error := work.exception()) is not None:
        log.error("background work failed", work=repr(work), exc_info=error)


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel the tasks until they have ended.

    Once is not enough: Python 3.11's asyncio.wait_for, through which redis-py writes, loses a cancellation that comes
    as its write ends. Without the repetition a stop would then wait forever.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_ASK_AGAIN)
