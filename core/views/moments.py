"""Moments of a topic's past: how they are named, which events they have, and what the view was then. Pure."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from core.views.folds import State
from pipai_contracts.cursor import Cursor
from pipai_contracts.record import BEGINNING, Record, StreamId


class PastError(Exception):
    """A moment that cannot be shown; the message says why."""


class NothingYetError(PastError):
    """There is no event of the topic up to that moment."""


class NotReachedError(PastError):
    """The topic has fewer events than the position says."""


class BeginningGoneError(PastError):
    """The history does not go back to where the topic began."""


class BackwardsError(PastError):
    """The first moment is after the second."""


class TooManyStepsError(PastError):
    """More events are between the two moments than are looked at one by one."""


class AtPosition(NamedTuple):
    """After so many events."""

    pos: int


class AtTime(NamedTuple):
    """After all events appended up to this millisecond since 1970."""

    milliseconds: int


At = AtPosition | AtTime


@dataclass(frozen=True, slots=True)
class ViewAt:
    """The view after ``pos`` events, ``record`` the newest of them; none before the first that is still there.

    ``cursor`` goes on from here, where the live feed still has what comes next.
    """

    pos: int
    state: State
    record: Record | None = None
    cursor: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """Which events a moment has.

    Up to ``milliseconds``, the first ``count`` of them, none beyond what the view has ``heard`` of its source, and none
    that its feed has ``later``. ``cursor`` is as in `ViewAt`.
    """

    milliseconds: int | None = None
    count: int | None = None
    heard: Mapping[str, StreamId] = field(default_factory=dict[str, StreamId])
    later: AbstractSet[tuple[str, StreamId]] = frozenset()
    cursor: Cursor | None = None

    def has(self, record: Record, count: int) -> bool:
        """Whether this event is one of them; ``count`` of them came before it."""
        return (
            (self.milliseconds is None or record.stream_id.milliseconds <= self.milliseconds)
            and (self.count is None or count < self.count)
            and (not self.heard or record.stream_id <= self.heard.get(record.source, BEGINNING))
            and (record.envelope.event.type, record.stream_id) not in self.later
        )

    @property
    def until(self) -> int | None:
        """From which millisecond on it has no event for sure; None where that is not known."""
        return None if self.milliseconds is None else self.milliseconds + 1


def check_reached(since: At, upto: At, first: int, last: int) -> None:
    """Check that two moments, which have so many events, are what was asked for.

    Raises:
        NotReachedError, BackwardsError: they are not.
    """
    if isinstance(upto, AtPosition) and last < upto.pos:
        raise NotReachedError(f"the topic has {last} events")
    if isinstance(since, AtPosition) and first < since.pos:
        raise NotReachedError(f"the topic has {first} events up to the second moment")
    if isinstance(since, AtTime) and isinstance(upto, AtTime) and since > upto:
        raise BackwardsError("the first moment is after the second")
