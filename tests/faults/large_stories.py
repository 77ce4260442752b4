"""Endless large events of a few workflows that never end: what a viewer who does not read is soon noticed by."""

from random import Random

from core.runtime.clock import now
from pipai_contracts.envelope import Envelope
from pipai_contracts.events import WorkflowProgress
from pipai_contracts.ids import Topic

EVENT_BYTES = 48 * 1024
"""About; a hundred of them are more than the api keeps in memory for who comes back."""

LARGE_TOPICS = tuple(Topic("default", "workflow", f"large {number}") for number in range(2))


class LargeStories:
    """Events, each with an id of its own that it also carries as its message."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._told = 0

    def next(self) -> Envelope:
        """Another event."""
        self._told += 1
        event_id = f"large {self._told}"
        event = WorkflowProgress(
            workflow_id=self._random.choice(LARGE_TOPICS).id,
            step="drawing",
            progress=self._random.randrange(1, 100),
            message=event_id,
            metadata={"drawing": "x" * EVENT_BYTES},
        )
        return Envelope(event_id=event_id, time=now(), event=event)
