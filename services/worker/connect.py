"""Connecting to a Temporal that may not be there yet."""

import asyncio
from typing import Final

from temporalio.client import Client
from temporalio.envconfig import ClientConnectConfig

from core.runtime.logs import get_logger
from core.runtime.temporal import connect_temporal

LONGEST_PAUSE: Final = 10.0
"""Seconds between two attempts, at most."""

ATTEMPT_TIMEOUT: Final = 10.0
"""Seconds an attempt may take: a host that swallows packets never answers."""


async def wait_for_temporal(target: ClientConnectConfig) -> Client:
    """Connect, however long it takes. Says that Temporal is away once, not at every attempt."""
    pause = 0.5
    said = False
    while True:
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                return await connect_temporal(target)
        except (RuntimeError, TimeoutError) as error:
            if not said:
                get_logger().warning(
                    "Temporal does not answer; waiting for it", address=target.get("target_host"), reason=str(error)
                )
            said = True
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
