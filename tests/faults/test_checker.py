"""The checker finds each fault that is planted in a sound history, and none in the sound one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.views.folds import initial, render
from pipai_contracts.cursor import Cursor
from pipai_contracts.ids import Topic
from tests.core.telling import step
from tests.faults.anomaly import Name
from tests.faults.checker import find_anomalies, lost_by_redis
from tests.faults.history import (
    Answered,
    AnyHappening,
    Applied,
    Connected,
    Connecting,
    Fault,
    Generation,
    History,
    Invoked,
    Kept,
    Received,
    Rest,
    Rewound,
    Told,
    read_history,
)
from tests.faults.recovery import Recovery, recoveries
from tests.faults.sound_history import ADA, CHANGE, EPOCH, KEYS, NEXT_EPOCH, WORKFLOW, sound_history, wire


def _names(history: list[AnyHappening]) -> set[Name]:
    return {anomaly.name for anomaly in find_anomalies(history, KEYS)}


def _applies(topic: str) -> Callable[[AnyHappening], bool]:
    return lambda one: isinstance(one, Applied) and one.topic == topic


def _at(history: list[AnyHappening], found: Callable[[AnyHappening], bool], number: int = 0) -> int:
    return [index for index, one in enumerate(history) if found(one)][number]


def _drop_apply(history: list[AnyHappening]) -> None:
    del history[_at(history, _applies("default:file:f"))]


def _drop_apply_of_one_view(history: list[AnyHappening]) -> None:
    del history[_at(history, _applies(ADA), -1)]


def _double_apply(history: list[AnyHappening]) -> None:
    last = history[_at(history, _applies(WORKFLOW), -1)]
    assert isinstance(last, Applied)
    history.append(last.model_copy(update={"pos": last.pos + 1, "change": last.change + 9}))


def _swap_applies(history: list[AnyHappening]) -> None:
    one, other = _at(history, _applies(WORKFLOW), 0), _at(history, _applies(WORKFLOW), 1)
    first, second = history[one], history[other]
    assert isinstance(first, Applied)
    assert isinstance(second, Applied)
    history[one] = second.model_copy(update={"pos": 1, "change": first.change})
    history[other] = first.model_copy(update={"pos": 2, "change": second.change})


def _leave_a_position_out(history: list[AnyHappening]) -> None:
    last = _at(history, _applies(WORKFLOW), -1)
    history[last] = history[last].model_copy(update={"pos": 99})


def _apply_what_nobody_published(history: list[AnyHappening]) -> None:
    last = history[_at(history, _applies(WORKFLOW), -1)]
    foreign = wire(step(50, of="w", run="b", message="e77"), 77)
    history.append(last.model_copy(update={"pos": 6, "change": 2000, "stream_id": "78-0", "data": foreign}))


def _apply_what_was_refused(history: list[AnyHappening]) -> None:
    _apply_what_nobody_published(history)
    history.insert(0, Invoked(at=0, op=77, event_id="e77", envelope=None))
    history.insert(1, Answered(at=0, op=77, outcome="fail"))


def _answer_a_repeat_with_another_place(history: list[AnyHappening]) -> None:
    first = history[_at(history, lambda one: isinstance(one, Answered))]
    history += [
        history[_at(history, lambda one: isinstance(one, Invoked))].model_copy(update={"op": 50}),
        first.model_copy(update={"op": 50, "stream_id": "50-0", "duplicate": True}),
    ]


def _answer_a_repeat_as_if_new(history: list[AnyHappening]) -> None:
    invoked = history[_at(history, lambda one: isinstance(one, Invoked))]
    answered = history[_at(history, lambda one: isinstance(one, Answered))]
    history += [one.model_copy(update={"op": 50}) for one in (invoked, answered)]


def _apply_from_another_place(history: list[AnyHappening]) -> None:
    last = _at(history, _applies(WORKFLOW), -1)
    history[last] = history[last].model_copy(update={"stream_id": "60-0"})


def _change_the_epoch_silently(history: list[AnyHappening]) -> None:
    last = _at(history, _applies(WORKFLOW), -1)
    history[last] = history[last].model_copy(update={"epoch": NEXT_EPOCH})


def _tell_of_a_loss_that_was_none(history: list[AnyHappening]) -> None:
    history.append(Generation(at=50, partition=0, change=5000, generation=1))


def _show_a_foreign_payload(history: list[AnyHappening]) -> None:
    seen = _at(history, lambda one: isinstance(one, Received), 1)
    history[seen] = history[seen].model_copy(update={"data": wire(step(50, of="w", message="e66"), 66)})


def _count_a_late_terminal(history: list[AnyHappening]) -> None:
    late = [index for index, one in enumerate(history) if isinstance(one, Applied) and '"late"' in one.data]
    for index in late:
        one = history[index]
        assert isinstance(one, Applied)
        history[index] = one.model_copy(update={"data": one.data.replace(',"late":true', "")})


def _keep_a_view_that_is_no_fold(history: list[AnyHappening]) -> None:
    rest = _at(history, lambda one: isinstance(one, Rest))
    history[rest] = history[rest].model_copy(update={"view": render(initial(Topic.parse(WORKFLOW))).model_dump_json()})


def _drop_what_a_viewer_saw(history: list[AnyHappening]) -> None:
    del history[_at(history, lambda one: isinstance(one, Received), 3)]


def _show_something_twice(history: list[AnyHappening]) -> None:
    seen = _at(history, lambda one: isinstance(one, Received), 3)
    history.insert(seen, history[seen])


def _reset_without_a_reason(history: list[AnyHappening]) -> None:
    history.append(Told(at=60, viewer="v", reason="lost", cursor=str(Cursor(EPOCH, 5))))


def _resume_elsewhere(history: list[AnyHappening]) -> None:
    asked = str(Cursor(EPOCH, 5))
    history += [
        Connecting(at=60, viewer="v", topic=WORKFLOW, cursor=str(Cursor(EPOCH, 4))),
        Connected(at=60, viewer="v", cursor=asked, resumed=True),
    ]


def _leave_a_viewer_behind(history: list[AnyHappening]) -> None:
    del history[_at(history, lambda one: isinstance(one, Received), -1)]


PLANTS: list[tuple[Name, Callable[[list[AnyHappening]], None]]] = [
    ("lost-write", _drop_apply),
    ("lost-write", _drop_apply_of_one_view),
    ("duplicate", _double_apply),
    ("reordered", _swap_applies),
    ("hole", _leave_a_position_out),
    ("phantom", _apply_what_nobody_published),
    ("aborted-read", _apply_what_was_refused),
    ("split-place", _answer_a_repeat_with_another_place),
    ("split-place", _answer_a_repeat_as_if_new),
    ("misplaced", _apply_from_another_place),
    ("untold-epoch", _change_the_epoch_silently),
    ("unmatched-generation", _tell_of_a_loss_that_was_none),
    ("split-position", _show_a_foreign_payload),
    ("late-terminal", _count_a_late_terminal),
    ("wrong-view", _keep_a_view_that_is_no_fold),
    ("gap", _drop_what_a_viewer_saw),
    ("repeat", _show_something_twice),
    ("unmatched-reset", _reset_without_a_reason),
    ("foreign-cursor", _resume_elsewhere),
    ("stale-viewer", _leave_a_viewer_behind),
]


def test_a_sound_history_has_no_anomaly(tmp_path: Path) -> None:
    with History(tmp_path / "history.jsonl") as history:
        for happening in sound_history():
            history.add(happening)
    read = list(read_history(tmp_path / "history.jsonl"))

    assert read == sound_history()
    assert find_anomalies(read, KEYS) == []


@pytest.mark.parametrize(("name", "plant"), PLANTS, ids=[plant.__name__[1:] for _, plant in PLANTS])
def test_what_is_planted_is_found(name: Name, plant: Callable[[list[AnyHappening]], None]) -> None:
    history = sound_history()
    plant(history)

    assert name in _names(history)


def _lose(history: list[AnyHappening], *, told: bool, kept: bool = False) -> None:
    """Have Redis forget the notification ``e4``, after it was applied."""
    gone = [index for index, one in enumerate(history) if isinstance(one, Applied) and '"e4"' in one.data]
    at = history[gone[0]].at
    history[gone[0]] = Rewound(at=at, partition=0, change=CHANGE + 7)
    history.insert(0, Fault(at=1, name="failover", phase="begin", loses=True))
    if told:
        history.insert(gone[0] + 2, Generation(at=at, partition=0, change=CHANGE + 8, generation=1))
    if not kept:
        for index, one in enumerate(history):
            if isinstance(one, Kept):
                history[index] = one.model_copy(update={"stream_ids": ("1-0",)})


def test_what_redis_lost_is_no_anomaly_once_it_was_told() -> None:
    history = sound_history()
    _lose(history, told=True)

    assert not _names(history) & {"lost-write", "silent-loss"}
    assert {event.event_id for event in lost_by_redis(history, KEYS)} == {"e4"}


def test_silence_about_what_redis_lost_is_an_anomaly() -> None:
    history = sound_history()
    _lose(history, told=False)

    assert "silent-loss" in _names(history)


def test_what_redis_kept_must_be_applied_even_after_a_loss() -> None:
    history = sound_history()
    _lose(history, told=True, kept=True)

    assert "lost-write" in _names(history)


def test_an_event_nobody_knows_the_fate_of_may_be_applied_or_not() -> None:
    history = sound_history()
    answered = _at(history, lambda one: isinstance(one, Answered) and one.op == 2)
    history[answered] = Answered(at=2, op=2, outcome="info")
    assert _names(history) == set()

    del history[_at(history, _applies("default:file:f"))]
    del history[_at(history, lambda one: isinstance(one, Rest) and one.topic == "default:file:f")]
    assert _names(history) == set()


def test_recovery_takes_until_the_slowest_source_shows_an_event_acknowledged_after_the_fault() -> None:
    history = sound_history()
    history.append(Fault(at=2.5, name="kill", phase="end"))
    history.append(Fault(at=50, name="nothing after it", phase="end"))

    assert recoveries(history, KEYS) == [Recovery("kill", 1.5), Recovery("nothing after it", None)]
