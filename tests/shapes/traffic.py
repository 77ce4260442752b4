"""Producers that go on through a failover, and what they were told."""

import asyncio
import time
from dataclasses import dataclass, field

from core.log.append import Appender
from core.log.errors import LogUnavailableError
from tests.core.telling import Told, notice, step

_PAUSE = 0.005
WORKFLOWS = 12
USERS = 3


@dataclass
class Traffic:
    """Publishes progress of a few workflows and notifications, one at a time, until it is told to stop.

    ``acknowledged``: event ids in the order of their acknowledgement. ``refused_at`` and ``acknowledged_at``: when
    that was last, per source stream.
    """

    appender: Appender
    acknowledged: list[str] = field(default_factory=list[str])
    acknowledged_at: dict[str, float] = field(default_factory=dict[str, float])
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """One producer for each workflow's stream and one for each user's, so that a dead node stops only its own."""
        told: list[Told] = [step(50, of=f"w{number}").by(f"u{number % USERS}") for number in range(WORKFLOWS)]
        told += [notice("n", of=f"u{number}") for number in range(USERS)]
        await asyncio.gather(*(self._repeat(number, one) for number, one in enumerate(told)))

    async def _repeat(self, producer: int, told: Told) -> None:
        """Publish the same again and again; what was refused is repeated with its id, as a producer should."""
        count = 0
        while not self.stopping.is_set():
            event_id = f"{producer}-{count}"
            try:
                (published,) = await self.appender.append([told.envelope(event_id)])
            except LogUnavailableError:
                await asyncio.sleep(0.05)
                continue
            self.acknowledged.append(event_id)
            self.acknowledged_at[published.topic] = time.monotonic()
            count += 1
            await asyncio.sleep(_PAUSE)

    def all_since(self, moment: float) -> bool:
        """Whether every producer was acknowledged after that moment."""
        fresh = [at for at in self.acknowledged_at.values() if at > moment]
        return len(fresh) == WORKFLOWS + USERS
