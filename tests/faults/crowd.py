"""The viewers of a fault test: who watches, and how they come, sleep and are cut off together."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from pipai_contracts.ids import Topic
from tests.conftest import wait_until
from tests.faults.history import History
from tests.faults.viewer import Viewer

COME_SECONDS = 30

SMALL_BUFFER = 4096
"""Bytes; who has no more of it and does not read is felt after some events."""

MANY_TOPICS = (
    *(Topic("default", "workflow", f"workflow {number}") for number in range(2, 8)),
    *(Topic("default", "file", f"file {number}") for number in range(3)),
    Topic("default", "user", "user 2"),
)


class Crowd:
    """Viewers, each of whom begins with another of the api processes; every second one takes gzip."""

    def __init__(self, ports: Sequence[int], history: History) -> None:
        self.viewers: list[Viewer] = []
        self._ports = ports
        self._history = history
        self._staying = AsyncExitStack()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Whoever comes stays until the block ends."""
        async with self._staying:
            yield

    async def come(self, topic: Topic, count: int = 1, *, sleepy: bool = False) -> list[Viewer]:
        """So many more viewers of a topic; they are on their way. ``sleepy``: they have small buffers, and no gzip."""
        come: list[Viewer] = []
        for _ in range(count):
            number = len(self.viewers)
            by = number % len(self._ports)
            ports = [*self._ports[by:], *self._ports[:by]]
            name = f"{topic.name} {number}"
            if sleepy:
                viewer = Viewer(name, ports, topic, self._history, buffer=SMALL_BUFFER)
            else:
                viewer = Viewer(name, ports, topic, self._history, gzip=number // len(self._ports) % 2 == 1)
            await self._staying.enter_async_context(viewer.watching())
            self.viewers.append(viewer)
            come.append(viewer)
        return come

    async def have_come(self, viewers: Iterable[Viewer]) -> None:
        """Wait until all of these have been connected."""
        left = list(viewers)
        await wait_until(lambda: all(one.has_come for one in left), COME_SECONDS, "not all viewers are connected")

    @asynccontextmanager
    async def asleep(self, viewers: Iterable[Viewer]) -> AsyncGenerator[None]:
        """These read nothing while the block lasts."""
        async with AsyncExitStack() as stack:
            for viewer in viewers:
                await stack.enter_async_context(viewer.asleep())
            yield

    def cut(self) -> None:
        """Break everybody's connection at once."""
        for viewer in self.viewers:
            viewer.cut()
