"""The shaping machine: what leaves, when, and what a viewer that is cut off in between would have."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipai_contracts.cursor import Cursor
from pipai_contracts.frames import Shaping
from services.api.messages import Message, event_message
from services.api.shaping import MAX_WAITING, MAX_WAITING_BYTES, POSITION_SECONDS, Group, Shaper

EPOCH = "1234abcd"
DONE = 100


def _event(pos: int, event: str, **fields: Any) -> Message:
    return event_message(Cursor(EPOCH, pos), event, json.dumps({"timestamp": "t", **fields}).encode())


def _progress(pos: int, progress: int, step: str = "s", **fields: Any) -> Message:
    return _event(pos, "workflow_progress", workflow_id="w", step=step, progress=progress, **fields)


def _text(pos: int, delta: str, step: str = "s", **fields: Any) -> Message:
    return _event(pos, "ai_progress", workflow_id="w", step=step, delta=delta, **fields)


def _position(cursor: Cursor) -> Message:
    return Message("position", b"{}", cursor)


def _shaper(**asked: Any) -> Shaper:
    return Shaper(Shaping(**asked), _position)


def _pos(message: Message) -> int:
    return message.cursor.pos if message.cursor is not None else 0


def _positions(groups: Iterable[Group]) -> list[list[int]]:
    return [[_pos(message) for message in group] for group in groups]


def _data(message: Message) -> dict[str, Any]:
    return json.loads(message.data)


def test_the_first_progress_comes_at_once_and_then_the_latest_of_each_step() -> None:
    shaper = _shaper(throttle_ms=1000)
    assert _positions(shaper.offer(10, _progress(1, 1))) == [[1]]
    for pos in (2, 3):
        assert shaper.offer(10.1, _progress(pos, pos, "a")) == []
    assert shaper.offer(10.2, _progress(4, 4, "b")) == []
    assert shaper.offer(10.3, _progress(5, 5, "a")) == []
    assert shaper.due == 11
    assert shaper.release(10.9) == []
    assert _positions(shaper.release(11)) == [[4], [5]]
    assert shaper.due is None
    assert _positions(shaper.offer(12.5, _progress(6, 6))) == [[6]]


@pytest.mark.parametrize(
    "urgent",
    [
        _progress(2, DONE),
        _progress(2, 30, error="broken"),
        _progress(2, 30, canceled=True),
        _progress(2, DONE, late=True),
        _event(2, "notification", user_id="u", title="t", message=""),
        _event(2, "temporal_status", workflow_id="w", status="running"),
        _event(2, "ai_progress", workflow_id="w", step="s", progress=DONE),
        _event(2, "ai_progress", workflow_id="w", step="s", result={"a": 1}),
        _event(2, "ai_progress"),
        Message("reset", b"{}", Cursor("ffffffff", 2)),
        Message("error", b"{}", None),
    ],
)
def test_what_tells_of_an_end_or_of_a_person_comes_at_once_behind_what_waited(urgent: Message) -> None:
    shaper = _shaper(throttle_ms=1000)
    shaper.offer(10, _progress(0, 0))
    assert shaper.offer(10, _progress(1, 1)) == []
    assert [group[0].frame for group in shaper.offer(10, urgent)] == [_progress(1, 1).frame, urgent.frame]


def test_what_came_late_does_not_take_the_place_of_the_run_that_goes_on() -> None:
    shaper = _shaper(throttle_ms=1000)
    shaper.offer(10, _progress(1, 1))
    shaper.offer(10, _progress(2, 5, run_id="r2"))
    shaper.offer(10, _progress(3, 90, run_id="r1", late=True))
    assert _positions(shaper.release(11)) == [[2], [3]]


def test_texts_of_a_step_are_joined_with_the_last_word_on_everything_else() -> None:
    shaper = _shaper(throttle_ms=1000)
    shaper.offer(10, _progress(1, 1))
    shaper.offer(10, _text(2, "Once ", model="m", metadata={"n": 1}))
    shaper.offer(10, _event(3, "ai_progress", workflow_id="w", step="s", progress=7))
    shaper.offer(10, _text(4, "upon ", metadata={"n": 2}))
    [[joined]] = shaper.release(11)
    assert joined.cursor == Cursor(EPOCH, 4)
    assert _data(joined) == {
        "timestamp": "t",
        "workflow_id": "w",
        "step": "s",
        "model": "m",
        "progress": 7,
        "metadata": {"n": 2},
        "delta": "Once upon ",
    }


def test_texts_are_not_joined_over_another_event_that_would_be_claimed_as_told() -> None:
    shaper = _shaper(throttle_ms=1000)
    shaper.offer(10, _progress(1, 1))
    for message in (_text(2, "a"), _progress(3, 3), _text(4, "b"), _text(5, "c")):
        shaper.offer(10, message)
    assert _positions(shaper.release(11)) == [[2], [3], [5]]


def test_a_batch_leaves_as_one_when_its_time_has_come() -> None:
    shaper = _shaper(batch_ms=50)
    assert shaper.offer(10, _progress(1, 1)) == []
    assert shaper.offer(10.04, _progress(2, DONE)) == []
    assert shaper.due == pytest.approx(10.05)
    assert _positions(shaper.release(10.06)) == [[1, 2]]
    assert shaper.offer(10.07, _progress(3, 1)) == []
    assert _positions(shaper.offer(10.08, Message("reset", b"{}", Cursor("ffffffff", 9)))) == [[3], [9]]


def test_a_throttle_comes_before_a_batch() -> None:
    shaper = _shaper(throttle_ms=1000, batch_ms=100)
    shaper.offer(10, _progress(1, 1))
    shaper.offer(10, _progress(2, 2))
    shaper.offer(10, _progress(3, 3))
    assert _positions(shaper.release(10.1)) == [[1]]
    assert shaper.release(11) == []
    assert _positions(shaper.release(11.1)) == [[3]]


def test_where_all_is_filtered_out_the_viewer_hears_how_far_it_is() -> None:
    shaper = _shaper(types=("notification",))
    for pos in range(1, 900):
        assert shaper.offer(10 + pos / 1000, _progress(pos, 1)) == []
    assert shaper.due == pytest.approx(10.001 + POSITION_SECONDS)
    [[position]] = shaper.release(10.001 + POSITION_SECONDS)
    assert (position.event, position.cursor) == ("position", Cursor(EPOCH, 899))
    assert shaper.due is None


def test_a_position_waits_for_what_it_would_overtake() -> None:
    shaper = _shaper(types=("workflow_progress",), throttle_ms=60_000)
    shaper.offer(10, _progress(1, 1))
    shaper.offer(10, _progress(2, 2))
    shaper.offer(10, _text(3, "filtered out"))
    assert shaper.release(30) == []
    assert [[message.event for message in group] for group in shaper.release(70)] == [
        ["workflow_progress"],
        ["position"],
    ]


@pytest.mark.parametrize(
    ("asked", "size"),
    [({"throttle_ms": 60_000}, 10), ({"batch_ms": 60_000}, 10), ({"throttle_ms": 60_000, "batch_ms": 60_000}, 5_000)],
)
def test_what_waits_is_bounded(asked: dict[str, int], size: int) -> None:
    shaper = _shaper(**asked)
    waits, frames = 0, 0
    for pos in range(1, 3 * MAX_WAITING):
        message = _text(pos, "x" * size, step=str(pos))
        waits, frames = waits + 1, frames + len(message.frame)
        for group in shaper.offer(10, message):
            waits -= len(group)
            frames -= sum(len(left.frame) for left in group)
        assert waits <= 2 * MAX_WAITING
        assert frames <= 2 * (MAX_WAITING_BYTES + 2 * size)


class Sent(NamedTuple):
    """What left, and when."""

    at: float
    group: Group


_STEPS = st.sampled_from("ab")
_CASES = st.one_of(
    st.tuples(st.just("workflow_progress"), _STEPS, st.sampled_from([10, 20, DONE])),
    st.tuples(st.just("ai_progress"), _STEPS, st.text("xyz", min_size=1, max_size=2)),
    st.tuples(st.just("ai_progress"), _STEPS, st.none()),
    st.tuples(st.just("notification"), st.none(), st.none()),
)
_HISTORIES = st.lists(st.tuples(_CASES, st.sampled_from([0, 0, 0.01, 0.2, 3])), max_size=60)
_ASKED = st.fixed_dictionaries(
    {},
    optional={
        "throttle_ms": st.sampled_from([0, 100, 1000]),
        "batch_ms": st.sampled_from([0, 50, 2000]),
        "types": st.sampled_from([("ai_progress",), ("notification", "workflow_progress")]),
    },
)


def _history(cases: Sequence[tuple[tuple[Any, ...], float]]) -> list[tuple[float, Message]]:
    at, history = 100.0, list[tuple[float, Message]]()
    for pos, ((event, step, value), gap) in enumerate(cases, start=1):
        at += gap
        if event == "notification":
            message = _event(pos, event, user_id="u", title="t", message="")
        elif event == "workflow_progress":
            message = _progress(pos, value, step)
        else:
            fields = {"progress": 5} if value is None else {"delta": value}
            message = _event(pos, event, workflow_id="w", step=step, **fields)
        history.append((at, message))
    return history


def _run(shaper: Shaper, history: Sequence[tuple[float, Message]]) -> list[Sent]:
    """Offer it all, release whatever is due on the way, and flush at the end."""
    sent: list[Sent] = []
    at = 100.0
    for at, message in history:
        while (due := shaper.due) is not None and due <= at:
            sent += [Sent(due, group) for group in shaper.release(due)]
            assert shaper.due is None or shaper.due > due
        sent += [Sent(at, group) for group in shaper.offer(at, message)]
    return sent + [Sent(at, group) for group in shaper.flush(at)]


def _texts(messages: Iterable[Message]) -> dict[str, str]:
    texts: dict[str, str] = defaultdict(str)
    for message in messages:
        if message.event == "ai_progress" and "delta" in _data(message):
            texts[_data(message)["step"]] += _data(message)["delta"]
    return texts


def _urgent(messages: Iterable[Message]) -> list[int]:
    """Positions of what neither waits nor is left out."""
    return [_pos(message) for message in messages if message.traits.subject is None]


def _newest(messages: Iterable[Message]) -> dict[Any, int]:
    """The position at which each subject was last told of."""
    return {message.traits.subject: _pos(message) for message in messages}


@given(_HISTORIES, _ASKED)
def test_positions_rise_and_end_where_the_history_does(cases: Any, asked: dict[str, Any]) -> None:
    history = _history(cases)
    positions = [_pos(message) for _, group in _run(_shaper(**asked), history) for message in group]
    assert positions == sorted(set(positions))
    assert positions[-1:] == [len(history)][: len(history)]


@given(_HISTORIES, _ASKED)
def test_whoever_is_cut_off_anywhere_resumes_without_losing_or_doubling_a_word(
    cases: Any, asked: dict[str, Any]
) -> None:
    """The id of the last message that arrived says what is still to come; texts add up to the same wherever it was."""
    history = [message for _, message in _history(cases)]
    wanted = [message for message in history if "types" not in asked or message.event in asked["types"]]
    sent = _run(_shaper(**asked), _history(cases))
    for count in range(len(sent) + 1):
        arrived = [message for _, group in sent[:count] for message in group]
        last = _pos(arrived[-1]) if arrived else 0
        missed = [message for message in wanted if _pos(message) > last]
        assert _texts([*arrived, *missed]) == _texts(wanted)
        heard = [message for message in [*arrived, *missed] if message.event != "position"]
        assert _urgent(heard) == _urgent(wanted)
        assert _newest(heard) == _newest(wanted)


@given(_HISTORIES, _ASKED)
def test_of_each_step_the_latest_comes_and_everything_urgent_does(cases: Any, asked: dict[str, Any]) -> None:
    history = [message for _, message in _history(cases)]
    wanted = [message for message in history if "types" not in asked or message.event in asked["types"]]
    left = {_pos(message): message for _, group in _run(_shaper(**asked), _history(cases)) for message in group}
    latest = {message.traits.subject: message for message in wanted}.values()
    urgent = [message for message in wanted if message.traits.subject is None]
    for message in [*urgent, *(one for one in latest if one.event == "workflow_progress")]:
        assert left[_pos(message)].frame == message.frame


@given(_HISTORIES, st.sampled_from([100, 1000]))
def test_progress_alone_never_comes_more_often_than_asked(cases: Any, throttle: int) -> None:
    calm = [(at, message) for at, message in _history(cases) if message.traits.subject is not None]
    *sent, last = [at for at, _ in _run(_shaper(throttle_ms=throttle), calm)] or [0]
    times = sorted(set(sent) - {last})  # the flush at the end comes when it does
    assert all(later - earlier >= throttle / 1000 - 1e-9 for earlier, later in pairwise(times))


UNREADABLE = [
    "[]",
    "{}",
    '{"workflow_id":"w","step":["s"],"delta":"a"}',
    '{"workflow_id":{"w":1},"step":"s","delta":"a"}',
    '{"workflow_id":"w","step":"s","run_id":[],"delta":"a"}',
    '{"workflow_id":"w","step":"s","delta":5}',
    '{"workflow_id":"w","step":"s","delta":"a","progress":"much"}',
]


@pytest.mark.parametrize("data", UNREADABLE)
def test_what_another_hand_wrote_is_passed_on_as_it_is(data: str) -> None:
    """Raised in the middle of handing out, what is wrong with it would be everybody's."""
    shaper = _shaper(throttle_ms=1000)
    assert _positions(shaper.offer(10, _text(1, "a"))) == [[1]]
    assert shaper.offer(10.1, _text(2, "b")) == []
    odd = event_message(Cursor(EPOCH, 3), "ai_progress", data.encode())
    assert _positions(shaper.offer(10.2, odd)) == [[2], [3]]
