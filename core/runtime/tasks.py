"""Work that goes on in the background while a block runs."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager


@asynccontextmanager
async def running(*work: Awaitable[None]) -> AsyncGenerator[None]:
    """Run the work while the block does; at its end cancel it and wait until it has ended."""
    tasks = {asyncio.ensure_future(part) for part in work}
    try:
        yield
    finally:
        # Once is not enough: Python 3.11's asyncio.wait_for, through which redis-py writes, loses a cancellation
        # that comes as its write ends. Without the repetition a stop would then wait forever.
        while tasks:
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=0.2)
