"""What must be true of what every viewer saw."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipai_contracts.cursor import START, Cursor
from tests.faults.anomaly import Anomaly
from tests.faults.history import AnyHappening, Connected, Connecting, Received, Rest, Slept, Told
from tests.faults.timeline import Timeline

_TOLD_OF_LOSS = {"epoch", "lost", "ahead"}
"""Reasons of a reset that only a loss has; a feed may be too short for a viewer by itself."""


@dataclass
class _Place:
    """Where a viewer is, and what it asked for last. ``slept``: it did not read all the while."""

    topic: str
    cursor: Cursor
    asked: Cursor | None = None
    slept: bool = False


def viewer_anomalies(put: Timeline, history: Sequence[AnyHappening]) -> Iterator[Anomaly]:
    """Whatever is wrong with what a viewer saw, or did not see."""
    payloads = {(one.topic, one.epoch, one.pos): (one.event, one.data) for one in put.everything}
    places: dict[str, _Place] = {}
    rests: dict[str, Cursor] = {}
    for happening in history:
        match happening:
            case Connecting(viewer=viewer, topic=topic, cursor=cursor):
                place = places.setdefault(viewer, _Place(topic, START))
                place.asked = Cursor.parse(cursor) if cursor is not None else None
            case Connected():
                yield from _connect(places[happening.viewer], happening)
            case Received():
                yield from _receive(put, places[happening.viewer], happening, payloads)
            case Told():
                yield from _reset(put, places[happening.viewer], happening)
            case Slept():
                places[happening.viewer].slept = True
            case Rest():
                rests[happening.topic] = Cursor.parse(happening.cursor)
            case _:
                pass
    for viewer, place in places.items():
        if place.topic in rests and place.cursor != rests[place.topic]:
            yield Anomaly("stale-viewer", f"{viewer} stands at {place.cursor}, its topic at {rests[place.topic]}")


def _reset(put: Timeline, place: _Place, told: Told) -> Iterator[Anomaly]:
    is_of_loss = told.reason in _TOLD_OF_LOSS
    if (is_of_loss and not _loss_before(put, told.at)) or (told.reason == "slow" and not place.slept):
        yield Anomaly("unmatched-reset", f"{told.viewer} was told {told.reason}")
    place.cursor = Cursor.parse(told.cursor)


def _loss_before(put: Timeline, at: float) -> bool:
    return any(fault.loses and fault.at <= at for fault in put.faults)


def _connect(place: _Place, answer: Connected) -> Iterator[Anomaly]:
    cursor = Cursor.parse(answer.cursor)
    if answer.resumed and cursor != place.asked:
        yield Anomaly("foreign-cursor", f"{answer.viewer} asked from {place.asked}, and was answered {cursor}")
    if not answer.resumed and place.asked is not None:
        yield Anomaly("forgotten-cursor", f"{answer.viewer} asked from {place.asked}, and was shown {cursor}")
    place.cursor = cursor


def _receive(
    put: Timeline, place: _Place, seen: Received, payloads: dict[tuple[str, str, int], tuple[str, str]]
) -> Iterator[Anomaly]:
    cursor = Cursor.parse(seen.cursor)
    expected = payloads.get((place.topic, cursor.epoch, cursor.pos))
    # What was applied and forgotten by Redis at once may have reached a viewer and nobody else.
    if expected is None and not put.may_have_lost:
        yield Anomaly("phantom", f"{seen.viewer} saw {cursor} of {place.topic}, which nobody applied")
    if expected is not None and expected != (seen.event, seen.data):
        yield Anomaly("split-position", f"{seen.viewer} saw {seen.data} at {cursor}, where {expected[1]} stands")
    is_elsewhere = place.cursor != START and cursor.epoch != place.cursor.epoch
    if is_elsewhere or cursor.pos > place.cursor.pos + 1:
        yield Anomaly("gap", f"{seen.viewer} saw {cursor} after {place.cursor}")
    elif cursor.pos <= place.cursor.pos:
        yield Anomaly("repeat", f"{seen.viewer} saw {cursor} after {place.cursor}")
    place.cursor = cursor
