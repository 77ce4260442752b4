"""Producers at work: a bounded open loop over many connections, with batches, repeats, retries and nonsense."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

from core.log.append import Appender
from core.log.errors import LogUnavailableError
from core.runtime.tasks import end, running
from pipai_contracts.envelope import Envelope
from tests.faults.history import History
from tests.faults.large_stories import LargeStories
from tests.faults.producer import Producer
from tests.faults.stories import Stories

_CONNECTIONS = 24
_WAITING = 4_000
"""Events that may wait for a connection; while ingest is away no more are made up."""

_BATCH = 20
_NONSENSE = 0.005
_RETRIES = 40
_RETRY_SECONDS = 0.25
_TICK = 0.01


class Workload:
    """Publishes about ``rate`` events a second, a tenth of them again. What nobody answered is sent again as it is.

    ``large``: events of a few workflows only, each of `EVENT_BYTES`.
    """

    def __init__(
        self, history: History, port: int, appender: Appender, *, rate: int, seed: int, large: bool = False
    ) -> None:
        self._history = history
        self._port = port
        self._appender = appender
        self._rate = rate
        self._random = Random(seed)
        self._stories = LargeStories(self._random) if large else Stories(self._random)
        self._waiting: asyncio.Queue[Envelope] = asyncio.Queue(_WAITING)
        self._recent: deque[Envelope] = deque(maxlen=500)
        self.published = 0

    @asynccontextmanager
    async def publishing(self) -> AsyncGenerator[None]:
        """Publish while the block lasts, then until everything is answered."""
        async with AsyncExitStack() as stack:
            producers = [
                await stack.enter_async_context(Producer(self._port, self._history)) for _ in range(_CONNECTIONS)
            ]
            serving = [
                asyncio.create_task(self._serve(producer, _BATCH if number % 2 else 1))
                for number, producer in enumerate(producers)
            ]
            try:
                async with running(self._make_up()):
                    yield
                answered = asyncio.create_task(self._waiting.join())
                done, _ = await asyncio.wait([answered, *serving], return_when=asyncio.FIRST_COMPLETED)
                for task in done:  # a producer that ended has failed
                    task.result()
            finally:
                await end(serving)

    async def _make_up(self) -> None:
        began, made = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * self._rate)
            for _ in range(min(due - made, _WAITING - self._waiting.qsize())):
                self._waiting.put_nowait(self._choose())
            made = due
            await asyncio.sleep(_TICK)

    def _choose(self) -> Envelope:
        """A new event; or one in ten times one that was sent a moment, or some hundred events, ago."""
        chance = self._random.random()
        if self._recent and chance < 0.05:
            return self._recent[-1]
        if self._recent and chance < 0.1:
            return self._random.choice(self._recent)
        envelope = self._stories.next()
        self._recent.append(envelope)
        return envelope

    async def _serve(self, producer: Producer, most: int) -> None:
        """Send what waits, at most so many events at once."""
        while True:
            envelopes = [await self._waiting.get()]
            while len(envelopes) < most and not self._waiting.empty():
                envelopes.append(self._waiting.get_nowait())
            await self._publish(producer, envelopes)
            self.published += len(envelopes)
            for _ in envelopes:
                self._waiting.task_done()

    async def _publish(self, producer: Producer, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            if envelope.event.type == "temporal_status":
                await self._append(producer, envelope)
        left = [envelope for envelope in envelopes if envelope.event.type != "temporal_status"]
        if left and self._random.random() < _NONSENSE:
            await producer.publish_nonsense(_renamed(left[0], f"nonsense {self.published}"))
        for _ in range(_RETRIES):
            left = await producer.publish(left) if left else []
            if not left:
                return
            await asyncio.sleep(_RETRY_SECONDS)

    async def _append(self, producer: Producer, envelope: Envelope) -> None:
        """As the watcher does, who tells what Temporal says without HTTP."""
        try:
            [published] = await self._appender.append([envelope])
        except LogUnavailableError:
            producer.note(envelope, None)
        else:
            producer.note(envelope, published.model_dump())


def _renamed(envelope: Envelope, event_id: str) -> Envelope:
    event = envelope.event.model_copy(update={"message": event_id})
    return envelope.model_copy(update={"event_id": event_id, "event": event})
