"""One way to Redis for the events of many requests: what arrives while a call is under way leaves with the next one."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from core.log.append import MAX_PER_CALL, Appender
from core.log.errors import LogUnavailableError
from core.log.keys import Source
from core.runtime.tasks import end
from pipai_contracts.publish import Published
from pipai_contracts.sealed import Sealed
from services.ingest.metrics import APPEND_SECONDS

TIMEOUT: Final = 5.0
"""Seconds until a Redis that does not answer counts as away. The client's own retries could take longer."""

MAX_BYTES_PER_CALL: Final = 4 * 1024 * 1024
"""Event data one call carries, its first event aside: Redis and the connection are blocked that long."""

MAX_WAITING: Final = 20_000
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Data of events that may wait, the last one that was taken aside."""

MAX_CALLS: Final = 16
"""Calls under way at once, each on a connection of its own; more partitions than that take turns."""

Answer = Published | LogUnavailableError


class FullPipelineError(LogUnavailableError):
    """More events wait for Redis than are kept."""


class _Waiting(NamedTuple):
    event: Sealed
    answered: asyncio.Future[Answer]


class _Lane:
    """The events of one source, in their order. One call is under way at a time, so the log has them in that order."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.waiting: deque[_Waiting] = deque()
        self.calling: asyncio.Task[None] | None = None

    def take(self) -> list[_Waiting]:
        """What leaves with the next call."""
        taken: list[_Waiting] = []
        size = 0
        while self.waiting and len(taken) < MAX_PER_CALL:
            size += len(self.waiting[0].event.data)
            if taken and size > MAX_BYTES_PER_CALL:
                break
            taken.append(self.waiting.popleft())
        return taken


class Pipeline:
    """Appends events in few calls. A lone event leaves at once.

    ``called`` hears of every call: with the error when none of its events may be stored, else with None.
    """

    def __init__(self, appender: Appender, called: Callable[[Exception | None], None]) -> None:
        self._appender = appender
        self._called = called
        self._lanes: dict[str, _Lane] = {}
        self._waiting = 0
        self._waiting_bytes = 0
        self._calls = asyncio.Semaphore(MAX_CALLS)

    def append(self, source: Source, event: Sealed) -> asyncio.Future[Answer]:
        """Send the event on its way; the future tells where it stands, or why it may not be stored.

        The events of a source keep their order. Cancelling the future takes nothing back.

        Raises:
            FullPipelineError: too many wait already; this one was not taken, and as long as no call ends none is.
        """
        if self._waiting >= MAX_WAITING or self._waiting_bytes >= MAX_WAITING_BYTES:
            raise FullPipelineError(f"{self._waiting} events wait for Redis, which is as many as are kept")
        self._waiting += 1
        self._waiting_bytes += len(event.data)
        lane = self._lanes.get(source.key)
        if lane is None:
            lane = self._lanes[source.key] = _Lane(source)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        lane.waiting.append(_Waiting(event, answered))
        if lane.calling is None:
            lane.calling = asyncio.create_task(self._drain(lane))
        return answered

    async def close(self) -> None:
        """End the calls under way; what waits is told that it may not be stored."""
        await end([lane.calling for lane in self._lanes.values() if lane.calling is not None])

    async def _drain(self, lane: _Lane) -> None:
        taken: list[_Waiting] = []
        try:
            while lane.waiting:
                async with self._calls:
                    taken = lane.take()
                    answers = await self._call(lane.source, [one.event for one in taken])
                self._settle(taken, answers)
                taken = []
        except LogUnavailableError as error:
            self._called(error)
            self._give_up(lane, taken, error)
        except BaseException as error:
            self._give_up(lane, taken, LogUnavailableError(f"appending ended: {error!r}"))
            raise
        finally:
            lane.calling = None

    def _give_up(self, lane: _Lane, taken: Sequence[_Waiting], error: LogUnavailableError) -> None:
        """Tell those of a failed call, and those who came meanwhile: they would wait as long for the same."""
        told = [*taken, *lane.waiting]
        lane.waiting.clear()
        self._settle(told, [error] * len(told))

    async def _call(self, source: Source, events: Sequence[Sealed]) -> list[Answer]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(TIMEOUT):
                answers = await self._appender.append_to(source, events)
        except TimeoutError as error:
            raise LogUnavailableError(f"no answer within {TIMEOUT} s") from error
        APPEND_SECONDS.observe(loop.time() - began)
        self._called(None)
        return answers

    def _settle(self, taken: Sequence[_Waiting], answers: Sequence[Answer]) -> None:
        for (event, answered), answer in zip(taken, answers, strict=True):
            self._waiting -= 1
            self._waiting_bytes -= len(event.data)
            if not answered.done():  # who waited may be gone
                answered.set_result(answer)
