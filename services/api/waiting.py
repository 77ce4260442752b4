"""Who waits for the next event of a topic without a stream."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from core.runtime.problems import ProblemError
from pipai_contracts.cursor import Cursor
from services.api import metrics
from services.api.channel import Channel
from services.api.messages import Message, Run

MAX_WAITERS: Final = 10_000
"""Requests that wait at a time, in this process."""

_NEWS: Final = 1_000
"""Events a waiter is given at once; the next request has the rest."""


class Waiter:
    """Watches a channel until something comes. ``news`` is what came: events, or None where positions jumped."""

    __slots__ = ("_woken",)

    def __init__(self) -> None:
        self._woken: asyncio.Future[list[Message] | None] = asyncio.get_running_loop().create_future()

    def tell(self, _: Channel, run: Run, /) -> None:
        """Only the first is waited for; who wants more asks again."""
        if any(message.event == "reset" for message in run.messages):
            self._wake(None)
        elif events := [message for message in run.messages if message.cursor is not None]:
            self._wake(events[:_NEWS])

    def over(self, _: Channel, /) -> None:
        """A run that ended is no reason to go: the next may begin."""

    def end(self) -> None:
        """Wait no longer; there was nothing."""
        self._wake([])

    async def news(self) -> list[Message] | None:
        """What came."""
        return await self._woken

    def _wake(self, news: list[Message] | None) -> None:
        if not self._woken.done():
            self._woken.set_result(news)


class Waiters:
    """All that wait in this process."""

    def __init__(self) -> None:
        self._waiters: set[Waiter] = set()
        self._closed = False

    def __len__(self) -> int:
        """How many there are."""
        return len(self._waiters)

    async def wait(
        self, channel: Channel, place: Cursor, seconds: float, gone: Callable[[], Awaitable[None]]
    ) -> list[Message] | None:
        """The first events of the channel beyond ``place``; empty when none came in time, or the asker is ``gone``.

        None: positions jumped, and only the store can tell what comes after the place.

        Raises:
            ProblemError: too many wait (503).
        """
        if len(self._waiters) >= MAX_WAITERS:
            raise ProblemError(
                503,
                "too-many-waiting",
                "Too many requests wait",
                f"{MAX_WAITERS} requests wait in this process; ask without wait, or a little later",
                headers={"Retry-After": "5"},
            )
        waiter = Waiter()
        if self._closed:
            waiter.end()
        self._waiters.add(waiter)
        metrics.WAITING.inc()
        channel.holders += 1
        channel.attach(waiter, place)
        leaving = asyncio.ensure_future(gone())
        leaving.add_done_callback(lambda _: waiter.end())
        try:
            async with asyncio.timeout(seconds):
                return await waiter.news()
        except TimeoutError:
            return []
        finally:
            leaving.cancel()
            channel.detach(waiter)
            channel.holders -= 1
            self._waiters.discard(waiter)
            metrics.WAITING.dec()

    def end(self) -> None:
        """Have everybody answered at once, and who comes from now on: the process is to stop."""
        self._closed = True
        for waiter in list(self._waiters):
            waiter.end()
