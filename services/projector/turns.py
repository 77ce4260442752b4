"""Taking turns: one stretch of the log is committed while the next is folded."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any


class Turns:
    """The order in which a projector's sources fold and commit. They share the views in memory.

    Folding is Python's work and committing mostly Redis's: done at the same time they take half as long. Never more
    than one stretch is on its way into Redis, and they go in the order they were folded in.
    """

    def __init__(self) -> None:
        self.folding = asyncio.Lock()
        """Held by who folds, until what it folded is handed over."""
        self._committing: asyncio.Task[None] | None = None

    async def commit(self, work: Coroutine[Any, Any, None]) -> None:
        """Start the work once what was handed over before is done.

        Raises:
            Exception: what was handed over before failed with it; the work was not started, because it stands on that.
        """
        try:
            await self.settled()
        except BaseException:
            work.close()
            raise
        self._committing = asyncio.create_task(work)

    async def settled(self) -> None:
        """Wait until nothing is being committed.

        Raises:
            Exception: what was handed over last failed with it. It is raised to one who waits.
        """
        task = self._committing
        if task is None:
            return
        await asyncio.wait([task])
        if self._committing is task:
            self._committing = None
            await task

    async def end(self) -> None:
        """Wait until nothing is being committed, whatever came of it."""
        with suppress(Exception):
            await self.settled()
