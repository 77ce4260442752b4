"""Work that goes on in the background while a block runs."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

_ASK_AGAIN: Final = 0.2


@asynccontextmanager
async def running(*work: Awaitable[None]) -> AsyncGenerator[None]:
    """Run the work while the block does; at its end cancel it and wait until it has ended."""
    tasks = [asyncio.ensure_future(part) for part in work]
    try:
        yield
    finally:
        await end(tasks)


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel the tasks until they have ended.

    Once is not enough: Python 3.11's asyncio.wait_for, through which redis-py writes, loses a cancellation that comes
    as its write ends. Without the repetition a stop would then wait forever.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_ASK_AGAIN)
