"""What must be true of the states viewers were shown: each is the fold of what lies before its cursor."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic_core import from_json

from core.views.folds import evolve, initial, render
from pipai_contracts.cursor import Cursor
from pipai_contracts.ids import Topic
from tests.faults.anomaly import Anomaly
from tests.faults.history import AnyHappening, Connected, Connecting, Told
from tests.faults.timeline import Timeline

_Shown = tuple[str, str, str]
"""Who was shown something, the cursor that came with it, and the state as JSON."""


def state_anomalies(put: Timeline, history: Sequence[AnyHappening]) -> Iterator[Anomaly]:
    """Every state shown to a viewer that the view never had at that place.

    One of a history that Redis lost cannot be known.
    """
    for topic, shown in _by_topic(history).items():
        cursors = {cursor for _, cursor, _ in shown}
        states = _states(put, topic, cursors)
        for viewer, cursor, view in shown:
            known = states.get(cursor)
            if known is None and not put.may_have_lost:
                yield Anomaly("wrong-state", f"{viewer} was shown a state of {topic} at {cursor}, where it never was")
            if known is not None and from_json(known) != from_json(view):
                yield Anomaly("wrong-state", f"{viewer} was shown {view} of {topic} at {cursor}, its fold is {known}")


def _by_topic(history: Sequence[AnyHappening]) -> Mapping[str, list[_Shown]]:
    topics: dict[str, str] = {}
    found: dict[str, list[_Shown]] = {}
    for happening in history:
        match happening:
            case Connecting(viewer=viewer, topic=topic):
                topics[viewer] = topic
            case (
                Connected(viewer=viewer, cursor=cursor, view=str(view))
                | Told(viewer=viewer, cursor=cursor, view=str(view))
            ):
                found.setdefault(topics[viewer], []).append((viewer, cursor, view))
            case _:
                pass
    return found


def _states(put: Timeline, topic: str, cursors: set[str]) -> Mapping[str, str]:
    """Cursor → the view's JSON there, for those that the view's surviving history has."""
    state = initial(Topic.parse(topic))
    states: dict[str, str] = {}
    for applied in put.lineage.get(topic, []):
        record = put.record(applied)
        if record is not None:
            state = evolve(state, record)
        cursor = str(Cursor(applied.epoch, applied.pos))
        if cursor in cursors:
            states[cursor] = render(state).model_dump_json()
    return states
