"""The worker's way into the log: progress as well as it goes, the end for certain."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from core.log.append import Appender
from core.log.errors import LogError, LogUnavailableError
from core.runtime.logs import get_logger
from pipai_contracts.envelope import Envelope, EventTooLargeError
from pipai_contracts.publish import Published
from services.worker.metrics import EVENTS

TIMEOUT: Final = 2.0
"""Seconds an append may take. The Redis client's own retries could take longer, and the work waits."""

PAUSE: Final = 5.0
"""Seconds without progress events after one failed, so that a Redis that is away does not slow the work."""


class Publisher:
    """Appends events, counts them, and says once when the log goes away or comes back."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        self._silent_until = 0.0
        self._agrees = False

    async def begin(self) -> None:
        """Check at start that events go where the deployment reads them; a Redis that is away is checked later.

        Raises:
            LayoutError: the deployment has another number of partitions.
        """
        with suppress(LogUnavailableError, TimeoutError):
            async with asyncio.timeout(TIMEOUT):
                await self._check_once()

    async def tell(self, envelopes: Sequence[Envelope]) -> bool:
        """Append progress; whether it was. Never raises: progress must not fail the work."""
        now = asyncio.get_running_loop().time()
        if now < self._silent_until:
            EVENTS.labels("failed").inc(len(envelopes))
            return False
        try:
            await self.append(envelopes)
        except (LogError, EventTooLargeError, TimeoutError) as error:
            self._silent_until = now + PAUSE
            get_logger().warning("stream progress not told", reason=str(error) or type(error).__name__)
            return False
        self._silent_until = 0.0
        return True

    async def append(self, envelopes: Sequence[Envelope]) -> list[Published]:
        """Append events that must not be lost.

        Raises:
            LogError, TimeoutError: Redis did not take them; they may or may not be stored.
            EventTooLargeError: one is over 256 KiB.
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._check_once()
                published = await self._appender.append(envelopes)
        except Exception:
            EVENTS.labels("failed").inc(len(envelopes))
            raise
        EVENTS.labels("published").inc(len(envelopes))
        for one in published:
            get_logger().debug(
                "stream event published", stream=one.stream, topic=one.topic, event_id=one.event_id, offset=one.offset
            )
        return published

    async def _check_once(self) -> None:
        if not self._agrees:
            await self._appender.check_layout()
            self._agrees = True
