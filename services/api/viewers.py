"""All viewers of a process: each has a heartbeat now and then, and an end when it has lived long enough."""

import asyncio
import random
from collections.abc import Iterator
from typing import Final

from services.api.pieces import Piece
from services.api.viewer import Viewer

HEARTBEAT: Final = Piece(b": heartbeat\n")
"""A comment line, and no blank line: after one, httpx-sse and others give an event without data."""

_JITTER: Final = 0.2
"""Share of its life by which a connection may end earlier: those that came together do not come back together."""


class Viewers:
    """They are in as many groups as a heartbeat has seconds: each second one group has its turn."""

    def __init__(self, *, heartbeat: int, lifetime: int, retry: int) -> None:
        self._groups: list[set[Viewer]] = [set() for _ in range(heartbeat)]
        self._turn = 0
        self._lifetime = lifetime
        self._retry = retry

    def __len__(self) -> int:
        """How many there are."""
        return sum(len(group) for group in self._groups)

    def __iter__(self) -> Iterator[Viewer]:
        """All of them, as they are now."""
        return iter([viewer for group in self._groups for viewer in group])

    def add(self, viewer: Viewer) -> None:
        """Its first heartbeat comes after a whole interval."""
        early = random.uniform(0, _JITTER)  # noqa: S311 - nobody gains by guessing it
        viewer.expires = asyncio.get_running_loop().time() + self._lifetime * (1 - early)
        self._groups[self._turn - 1].add(viewer)

    def remove(self, viewer: Viewer) -> None:
        """It is gone."""
        for group in self._groups:
            group.discard(viewer)

    async def run(self) -> None:
        """Give each group its turn, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1)
            now = loop.time()
            for viewer in list(self._groups[self._turn]):
                if now >= viewer.expires:
                    viewer.end("lifetime", reconnect=True, retry=jittered(self._retry))
                elif not viewer.outlet.paused:
                    viewer.outlet.write(HEARTBEAT)
            self._turn = (self._turn + 1) % len(self._groups)


def jittered(milliseconds: int) -> int:
    """A wait of up to so long: those who are told to go at once do not come back at once."""
    return round(milliseconds * random.uniform(0.1, 1))  # noqa: S311 - nobody gains by guessing it
