"""Taking turns: one stretch of the log is committed while the next is folded."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from core.runtime.logs import get_logger

log = get_logger()

Work = Callable[[], Coroutine[Any, Any, None]]


class Turns:
    """The order in which a projector's sources fold and commit. They share the views in memory.

    Folding is Python's work and committing mostly Redis's: done at the same time they take half as long. Never more
    than one stretch is on its way into Redis, and they go in the order they were folded in.
    """

    def __init__(self) -> None:
        self.folding = asyncio.Lock()
        """Held by who folds, until what it folded is handed over."""
        self._committing: asyncio.Task[None] | None = None
        self._tidying: asyncio.Task[None] | None = None

    async def commit(self, work: Work, afterwards: Work) -> None:
        """Start the work once what was handed over before is done.

        ``afterwards`` follows when it succeeded, and nothing waits for that but `settled` and the next one's
        afterwards. It is to raise nothing.

        Raises:
            Exception: what was handed over before failed with it; the work was not started, because it stands on that.
        """
        await self._committed()
        self._committing = asyncio.create_task(self._run(work, afterwards))

    async def settled(self) -> None:
        """Wait until nothing is being committed, and what follows that is done too.

        Raises:
            Exception: what was handed over last failed with it. It is raised to one who waits.
        """
        try:
            await self._committed()
        finally:
            if self._tidying is not None:
                await asyncio.wait([self._tidying])

    async def end(self) -> None:
        """Wait until nothing is being committed; what it failed with is told here, and raised to nobody."""
        try:
            await self.settled()
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it
            log.warning("stream batch not projected", error=str(error))

    async def _run(self, work: Work, afterwards: Work) -> None:
        await work()
        if self._tidying is not None:
            await asyncio.wait([self._tidying])
        self._tidying = asyncio.create_task(afterwards())

    async def _committed(self) -> None:
        task = self._committing
        if task is None:
            return
        await asyncio.wait([task])
        if self._committing is task:
            self._committing = None
            await task
