"""Starts services in stages, keeps them running, and stops them in reverse order."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from services.standalone.child import Child, Service, State
from services.standalone.output import Output

STOP_WITHIN: Final = 4.5
"""Seconds all services together get to end by themselves; what then still runs is killed."""

STAGE_SHARE: Final = 1.0
"""Seconds of these that are kept for each earlier stage, however long a later one takes."""

IMPATIENCE: Final = 10.0
"""Seconds after which the services that are still waited for are named, again and again."""


class Supervisor:
    """Runs `stages` of services: a stage starts when everything in the one before is ready.

    `changed` is called whenever a child's state changed; `refuse` before the last stage: where it says why that cannot
    work, everything is stopped instead.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[Service]],
        output: Output,
        changed: Callable[[list[Child]], None],
        refuse: Callable[[], Awaitable[str | None]] | None = None,
    ) -> None:
        self._output = output
        self._refuse = refuse
        self._stop = asyncio.Event()
        self.refused: str | None = None
        """Why the last stage was not started."""
        self.stages = [
            [Child(service, output, lambda: changed(self.children)) for service in stage] for stage in stages
        ]
        self._tasks: dict[Child, asyncio.Task[None]] = {}

    @property
    def children(self) -> list[Child]:
        """All services, in the order they are started."""
        return [child for stage in self.stages for child in stage]

    def stop(self) -> None:
        """Make `run` stop everything and return. May be called from a signal handler of the event loop."""
        self._stop.set()

    async def run(self, when_ready: Callable[[], None]) -> None:
        """Start everything, call `when_ready` once, and return when all has ended after `stop`."""
        try:
            for stage in self.stages:
                if stage is self.stages[-1] and self._refuse is not None and not self._stop.is_set():
                    self.refused = await self._refuse()
                if self._stop.is_set() or self.refused is not None:
                    return
                for child in stage:
                    self._tasks[child] = asyncio.create_task(child.keep_running())
                await self._until_settled(stage)
            if not self._stop.is_set():
                when_ready()
            await self._stop.wait()
        finally:
            await self._stop_all()

    async def _until_settled(self, stage: list[Child]) -> None:
        stopped = asyncio.create_task(self._stop.wait())
        settled = asyncio.gather(*(child.settled.wait() for child in stage))
        try:
            while not (settled.done() or stopped.done()):
                await asyncio.wait([settled, stopped], timeout=IMPATIENCE, return_when=asyncio.FIRST_COMPLETED)
                late = [child.service.name for child in stage if not child.settled.is_set()]
                if late and not stopped.done():
                    self._output.say(f"still waiting for {', '.join(late)}")
        finally:
            stopped.cancel()
            settled.cancel()

    async def _stop_all(self) -> None:
        """Stop the last stage first: a service must still be able to tell Redis what it was doing."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + STOP_WITHIN
        for earlier, stage in reversed(list(enumerate(self.stages))):
            running = [child for child in reversed(stage) if child in self._tasks]
            for child in running:
                child.ask_to_stop()
            if running:
                seconds = max(0.0, deadline - clock() - earlier * STAGE_SHARE)
                await asyncio.wait([self._tasks[child] for child in running], timeout=seconds)
            for child in running:
                child.kill()
            await asyncio.gather(*(self._tasks[child] for child in running), return_exceptions=True)


def given_up(children: list[Child]) -> list[str]:
    """Names of the services that are not tried any more."""
    return [child.service.name for child in children if child.state is State.GAVE_UP]
