"""What a reader made of a stream."""

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.conftest import wait_until


class Event(NamedTuple):
    """An event as the reader gave it: the id that a browser would call ``lastEventId``, and data as text."""

    type: str
    id: str
    data: str


class Heard(list[Event]):
    """Everything a reader has told so far."""

    def told(self, event_type: str, event_id: str, data: str) -> None:
        """The reader has read one more event."""
        self.append(Event(event_type, event_id, data))

    def of(self, event_type: str) -> list[Event]:
        """The events of this type."""
        return [event for event in self if event.type == event_type]

    def data_of(self, event_type: str) -> list[Any]:
        """Their data."""
        return [json.loads(event.data) for event in self.of(event_type)]

    async def until(self, event_type: str, number: int) -> None:
        """Wait until it has told as many events of this type."""
        await wait_until(lambda: len(self.of(event_type)) >= number, 15, f"no {event_type} number {number}: {self}")


Follow = Callable[[str, Heard], Coroutine[Any, Any, None]]
"""Follows the stream at a URL until it is over for good, and comes back when the connection is lost."""


@dataclass(frozen=True)
class Reader:
    """A way to read streams, and how they come to it: ``gzip`` or ``plain``."""

    follow: Follow
    encoding: str = "gzip"
