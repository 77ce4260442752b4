"""The checker finds what viewers must not be told, or not be left without; and accepts what explains itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from pydantic_core import from_json, to_json

from core.views.folds import initial, render
from pipai_contracts.cursor import Cursor
from pipai_contracts.ids import Topic
from tests.faults.anomaly import Name
from tests.faults.checker import find_anomalies
from tests.faults.history import AnyHappening, Connected, Connecting, Fault, Rest, Slept, Told, Warned
from tests.faults.sound_history import EPOCH, KEYS, WORKFLOW, sound_history
from tests.faults.state_checker import state_anomalies
from tests.faults.timeline import timeline

END = str(Cursor(EPOCH, 5))
EMPTY = render(initial(Topic.parse(WORKFLOW))).model_dump_json()

Happenings = Sequence[AnyHappening]


def _view() -> str:
    """The workflow's view at the end."""
    return next(one.view for one in sound_history() if isinstance(one, Rest) and one.topic == WORKFLOW)


def _comes(cursor: str | None = END) -> Connecting:
    return Connecting(at=60, viewer="v", topic=WORKFLOW, cursor=cursor)


def _is_shown(view: str, *, stale: bool = False) -> Happenings:
    """Somebody else comes, and is shown this state."""
    come = Connecting(at=60, viewer="x", topic=WORKFLOW, cursor=None)
    return [come, Connected(at=60, viewer="x", cursor=END, resumed=False, stale=stale, view=view)]


def _resumed() -> Happenings:
    return [_comes(), Connected(at=60, viewer="v", cursor=END, resumed=True)]


def _slept(phase: Any) -> Slept:
    return Slept(at=60, viewer="v", phase=phase)


def _warned(*codes: str) -> Happenings:
    return [Warned(at=60, viewer="v", code=code) for code in codes]


def _away(*meanwhile: AnyHappening) -> Happenings:
    """Redis is away, and the other viewer is told what is to be told."""
    fault = {"at": 60, "name": "cut off", "hides": True}
    others = [Warned(at=60, viewer="u", code=code) for code in ("degraded", "recovered")]
    begin = Fault.model_validate({**fault, "phase": "begin"})
    return [begin, others[0], *meanwhile, Fault.model_validate({**fault, "phase": "end"}), others[1]]


def _slow(view: str | None = None) -> Told:
    return Told(at=60, viewer="v", reason="slow", cursor=END, view=view)


PLANTS: dict[str, tuple[Name, Happenings]] = {
    "slow who read all the while": ("unmatched-reset", [_slow()]),
    "shown the state in spite of a cursor": (
        "forgotten-cursor",
        [_comes(), Connected(at=60, viewer="v", cursor=END, resumed=False)],
    ),
    "shown another state on connect": ("wrong-state", _is_shown(EMPTY)),
    "shown a stale state that never was": ("wrong-state", _is_shown(EMPTY, stale=True)),
    "shown another state by a reset": ("wrong-state", [_slept("begin"), _slept("end"), _slow(EMPTY)]),
    "shown a state where the view never was": (
        "wrong-state",
        [_slept("begin"), Told(at=60, viewer="v", reason="slow", cursor=str(Cursor(EPOCH, 9)), view=EMPTY)],
    ),
    "not told that Redis is away": ("untold-outage", _away()),
    "told of an outage that was none": ("unmatched-warning", _warned("degraded", "recovered")),
    "told of an end without a beginning": ("unmatched-warning", _away(*_warned("recovered"))),
    "left in an outage": ("unmatched-warning", _away(*_warned("degraded"))),
    "left in a second outage": ("unmatched-warning", _away(*_warned("degraded", "recovered", "degraded"))),
    "told before it is connected": (
        "unmatched-warning",
        _away(*_warned("degraded"), _comes(), *_warned("degraded"), *_resumed()[1:], *_warned("recovered")),
    ),
}


@pytest.mark.parametrize(("name", "planted"), PLANTS.values(), ids=PLANTS.keys())
def test_what_is_planted_is_found(name: Name, planted: Happenings) -> None:
    found = {anomaly.name for anomaly in find_anomalies([*sound_history(), *planted], KEYS)}

    assert name in found


SOUND: dict[str, Happenings] = {
    "slow after a sleep": [_slept("begin"), _slept("end"), _slow(_view())],
    "comes back with a cursor": _resumed(),
    "comes and is shown the state": _is_shown(_view()),
    "told of an outage and of its end": [*_away(*_warned("degraded")), *_warned("recovered")],
    "told of both twice": [*_away(*_warned("degraded", "degraded")), *_warned("recovered", "recovered")],
    "asleep during an outage": [_slept("begin"), *_away(), _slept("end")],
    "comes back after an outage": [*_away(*_warned("degraded")), *_resumed()],
    "comes during an outage": [*_away(*_resumed(), *_warned("degraded")), *_warned("recovered")],
}


@pytest.mark.parametrize("happenings", SOUND.values(), ids=SOUND.keys())
def test_what_explains_itself_is_no_anomaly(happenings: Happenings) -> None:
    assert find_anomalies([*sound_history(), *happenings], KEYS) == []


def test_the_order_of_fields_makes_no_other_state_and_a_changed_one_does() -> None:
    view = cast("dict[str, Any]", from_json(_view()))
    turned = to_json(dict(reversed(view.items()))).decode()
    changed = to_json({**view, "progress": 12.5}).decode()

    def found(shown: str) -> list[str]:
        history = [*sound_history(), *_is_shown(shown)]
        return [anomaly.name for anomaly in state_anomalies(timeline(history, KEYS), history)]

    assert found(turned) == []
    assert found(changed) == ["wrong-state"]


def test_a_state_of_a_history_that_redis_lost_cannot_be_judged() -> None:
    history = [
        *sound_history(),
        _slept("begin"),
        Told(at=60, viewer="v", reason="slow", cursor="0000000c.3", view=EMPTY),
    ]
    put = timeline(history, KEYS)
    lost = Fault(at=1, name="failover", phase="begin", loses=True)

    assert list(state_anomalies(put, history)) != []
    assert list(state_anomalies(replace(put, faults=[lost]), history)) == []
