"""What one viewer's stream is made of when it asked for less than every event by itself.

Pure: no clock, no IO. `Shaper.offer` takes a topic's messages in their order and returns what leaves; what waits leaves
with `Shaper.release` once it is `Shaper.due`. Whatever leaves has rising positions, and nothing leaves whose id would
claim that something was told that still waits: a viewer cut off anywhere resumes without a gap and without a double.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final, get_args

from pipai_contracts.cursor import Cursor
from pipai_contracts.events import EventType
from pipai_contracts.frames import Shaping
from services.api.messages import Message, joined_message
from services.api.traits import Subject

MAX_WAITING: Final = 256
"""Events that wait in a stage; with more they leave early."""

MAX_WAITING_BYTES: Final = 64 * 1024
"""Bytes of frames that wait in a stage, unless a single one has more."""

POSITION_SECONDS: Final = 2.0
"""How long a viewer's cursor may stay behind when all that happens is filtered out."""

_EVENTS: Final = frozenset(get_args(EventType))
_NEVER: Final = float("-inf")

UNSHAPED: Final = Shaping()

Group = Sequence[Message]
"""Messages that leave as one SSE message: one, or the events of a batch."""


def passes(shaping: Shaping, event: str) -> bool:
    """Whether the filter lets messages of this name through. What is no event of the topic always comes."""
    return shaping.types is None or event not in _EVENTS or event in shaping.types


def is_shaped(shaping: Shaping) -> bool:
    """Whether the stream is any other than that of who asked for nothing."""
    return bool(shaping.throttle_ms or shaping.batch_ms or shaping.types)


class Throttle:
    """Holds progress back, and gives it out every ``seconds``: of each subject the latest, and texts joined.

    What neither waits nor is left out goes at once, behind what waited before it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[int, Message] = {}
        self._latest: dict[Subject, int] = {}
        self._count = 0
        self._size = 0
        self._free_at = _NEVER

    @property
    def due(self) -> float | None:
        """When what waits is to leave."""
        return self._free_at if self._waiting else None

    def offer(self, now: float, message: Message) -> list[Message]:
        """The next event; returns what leaves."""
        subject, _, text = message.traits
        if subject is None:
            return [*self.flush(now), message]
        if not text:
            self._drop(self._latest.get(subject))
            self._latest[subject] = self._count
        self._waiting[self._count] = message
        self._count += 1
        self._size += len(message.frame)
        full = len(self._waiting) >= MAX_WAITING or self._size >= MAX_WAITING_BYTES
        return self.flush(now) if full or now >= self._free_at else []

    def release(self, now: float) -> list[Message]:
        """What is due."""
        return self.flush(now) if now >= self._free_at else []

    def flush(self, now: float) -> list[Message]:
        """Everything that waits, in its order."""
        if not self._waiting:
            return []
        left = _join_neighbours(list(self._waiting.values()))
        self._waiting.clear()
        self._latest.clear()
        self._size = 0
        self._free_at = now + self._seconds
        return left

    def _drop(self, number: int | None) -> None:
        if number is not None:
            self._size -= len(self._waiting.pop(number).frame)


class Batch:
    """Collects events for ``seconds`` since the first of them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: list[Message] = []
        self._size = 0
        self._leaves_at = _NEVER

    @property
    def due(self) -> float | None:
        """When what waits is to leave."""
        return self._leaves_at if self._waiting else None

    def offer(self, now: float, message: Message) -> list[Group]:
        """The next event; returns what leaves."""
        if not self._seconds:
            return [[message]]
        if not self._waiting:
            self._leaves_at = now + self._seconds
        self._waiting.append(message)
        self._size += len(message.frame)
        full = len(self._waiting) >= MAX_WAITING or self._size >= MAX_WAITING_BYTES
        return self.flush() if full else []

    def release(self, now: float) -> list[Group]:
        """What is due."""
        return self.flush() if now >= self._leaves_at else []

    def flush(self) -> list[Group]:
        """Everything that waits."""
        left, self._waiting, self._size = self._waiting, [], 0
        return [left] if left else []


class Shaper:
    """A topic's messages on their way to one viewer: filtered, then throttled, then batched.

    ``position`` makes the message that says how far the viewer is. It follows where everything was filtered out for a
    while: a viewer that comes back must not be behind what it did not want to see, or history it never needed.
    """

    def __init__(self, shaping: Shaping, position: Callable[[Cursor], Message]) -> None:
        self._shaping = shaping
        self._throttle = Throttle((shaping.throttle_ms or 0) / 1000)
        self._batch = Batch((shaping.batch_ms or 0) / 1000)
        self._position = position
        self._passed: Cursor | None = None
        self._tell_at = _NEVER

    @property
    def due(self) -> float | None:
        """When `release` has something next; None while nothing waits."""
        waiting = [due for due in (self._throttle.due, self._batch.due) if due is not None]
        if waiting:
            return min(waiting)
        return None if self._passed is None else self._tell_at

    def offer(self, now: float, message: Message) -> list[Group]:
        """The next message; returns what leaves. What is no event leaves at once, behind all that waited."""
        if message.event not in _EVENTS:
            return [*self.flush(now), [message]]
        if not passes(self._shaping, message.event):
            if self._passed is None:
                self._tell_at = now + POSITION_SECONDS
            self._passed = message.cursor
            return []
        self._passed = None
        if not self._shaping.throttle_ms:
            return self._batch.offer(now, message)
        return self._into_batch(now, self._throttle.offer(now, message))

    def release(self, now: float) -> list[Group]:
        """What is due."""
        left = [*self._into_batch(now, self._throttle.release(now)), *self._batch.release(now)]
        if self._throttle.due is None and self._batch.due is None and now >= self._tell_at:
            left += self._say_position()
        return left

    def flush(self, now: float) -> list[Group]:
        """Everything that waits, and where that leaves the viewer."""
        left = [*self._into_batch(now, self._throttle.flush(now)), *self._batch.flush()]
        return [*left, *self._say_position()]

    def _into_batch(self, now: float, messages: Sequence[Message]) -> list[Group]:
        return [group for message in messages for group in self._batch.offer(now, message)]

    def _say_position(self) -> list[Group]:
        passed, self._passed = self._passed, None
        return [] if passed is None else [[self._position(passed)]]


def _join_neighbours(messages: Sequence[Message]) -> list[Message]:
    """Events of one AI step with nothing between them become one.

    Only neighbours: joined over another event, one of the two would carry an id that claims the other was told.
    """
    joined: list[Message] = []
    for joins, alike in groupby(messages, key=lambda message: message.traits.subject if message.traits.joins else None):
        together = list(alike)
        joined += [joined_message(together)] if joins and len(together) > 1 else together
    return joined
