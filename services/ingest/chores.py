"""Work that goes on beside the requests, through outages, for as long as the service runs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from core.runtime.logs import get_logger

MAX_PAUSE: Final = 30.0
"""Longest pause in seconds after failures in a row, unless the chore's own interval is longer."""

Chore = Callable[[], Awaitable[object]]

_log = get_logger()


async def repeat(name: str, chore: Chore, interval: float) -> None:
    """Do the chore, pause ``interval`` seconds, and so on; after failures the pause doubles.

    Says once when it begins to fail and once when it works again.
    """
    pause = interval
    failing = False
    while True:
        try:
            await chore()
        except Exception as error:  # noqa: BLE001 - an error nobody thought of must not end it either
            pause = max(interval, min(pause * 2, MAX_PAUSE))
            if not failing:
                reason = f"{type(error).__name__}: {error}"
                _log.warning(f"stream {name} fails and is tried again", reason=reason)
            failing = True
        else:
            pause = interval
            if failing:
                _log.info(f"stream {name} works again")
            failing = False
        await asyncio.sleep(pause)
