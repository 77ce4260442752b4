"""How a workflow's view follows its events."""

from typing import Any

import pytest

from pipai_contracts.events import Status
from pipai_contracts.ids import Topic
from pipai_contracts.views import MAX_AI_TEXT, MAX_STEPS, AiView, WorkflowView
from tests.core.specification import Specification, given
from tests.core.telling import Told, ai, analysis, at, step, temporal


def _ai(specification: Specification) -> AiView:
    view = specification.view
    assert isinstance(view, WorkflowView)
    assert view.ai is not None
    return view.ai


def _steps(specification: Specification) -> list[tuple[str, str, float, str, str | None]]:
    view = specification.view
    assert isinstance(view, WorkflowView)
    return [(one.name, one.state, one.progress, one.started, one.ended) for one in view.steps]


# How an event decides the status


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (step(0), "running"),
        (step(99.9), "running"),
        (step(100), "completed"),
        (step(50, error="no"), "failed"),
        (step(50, error=""), "failed"),
        (step(50, canceled=True), "canceled"),
        (step(50, canceled=False), "running"),
        (step(100, error="no"), "failed"),
        (step(100, error="no", canceled=True), "canceled"),
    ],
)
def test_cancellation_decides_before_error_and_error_before_progress(event: Told, status: Status) -> None:
    given().when(event).then(status=status)


def test_an_event_brings_step_progress_message_owner_and_times() -> None:
    (
        given(step(10, message="begun", metadata={"page": 1}).by("ada"))
        .when(step(20, "write", message="going"))
        .then(step="write", progress=20, message="going", user_id="ada", started=at(1), updated=at(2))
        .then(metadata={"page": 1}, result=None, error=None)
    )


def test_a_result_stays_when_later_events_bring_none() -> None:
    given(step(50, result={"pages": 12})).when(step(100)).then(result={"pages": 12}, status="completed")


def test_the_time_of_the_last_change_never_goes_back() -> None:
    given(step(10, second=50)).when(step(20, second=40)).then(updated=at(50), progress=20)


# Late events


@pytest.mark.parametrize("end", [step(100), step(50, error="no"), step(50, canceled=True), temporal("terminated")])
@pytest.mark.parametrize(
    "late",
    [step(60), step(100), step(1, error="no"), step(1, canceled=True), temporal("failed"), temporal("completed")],
)
def test_what_comes_after_the_end_of_a_run_leaves_the_view_alone(end: Told, late: Told) -> None:
    given(step(10), end).when(late).then_late()


def test_a_late_event_of_a_named_run_leaves_the_view_alone() -> None:
    given(step(100, run="a")).when(step(0, run="a")).then_late()


# An end that somebody else tells


@pytest.mark.parametrize("end", [{"error": "gone"}, {"canceled": True}, {"error": "gone", "canceled": True}])
def test_who_tells_an_end_for_somebody_else_does_not_lower_the_progress(end: dict[str, Any]) -> None:
    given(step(40, run="a")).when(step(0, run="a", **end)).then(progress=40)
    given(step(40)).when(step(55, **end)).then(progress=55)
    file = Topic("default", "file", "f")
    given(analysis(40), topic=file).when(analysis(0, **end)).then(progress=40)


def test_an_end_of_another_run_has_that_runs_progress() -> None:
    given(step(100, run="a")).when(step(0, run="b", error="gone")).then(progress=0, status="failed", run_id="b")


def test_progress_of_a_run_that_goes_on_may_go_back() -> None:
    given(step(40)).when(step(30)).then(progress=30)


# Another run


def test_progress_0_without_a_run_id_begins_another_run() -> None:
    (
        given(step(50, error="no", message="bad", result={"a": 1}, metadata={"b": 2}).by("ada"))
        .when(step(0, "again"))
        .then(status="running", step="again", error=None, message=None, result=None, metadata=None)
        .then(started=at(2), user_id="ada")
    )


def test_another_run_id_begins_another_run() -> None:
    seen = given(step(100, run="a")).when(step(30, run="b"))

    seen.then(status="running", run_id="b", previous_run_id="a", progress=30)
    assert len(_steps(seen)) == 1


def test_a_straggler_of_the_run_before_is_late() -> None:
    given(step(100, run="a"), step(30, run="b")).when(step(99, run="a")).then_late()


def test_another_run_id_while_running_goes_on_with_the_same_view() -> None:
    seen = given(step(40, run="a")).when(step(50, run="b"))

    seen.then(run_id="b", previous_run_id="a", progress=50, started=at(1)).when(step(41, run="a")).then_late()


def test_a_run_id_that_becomes_known_is_kept() -> None:
    given(step(40)).when(step(50, run="a"), step(60)).then(run_id="a", previous_run_id=None)


# Temporal's word


def test_temporal_ends_a_run_its_worker_could_not_end() -> None:
    seen = given(step(40, run="a")).when(temporal("timed_out", run="a", message="no heartbeat"))

    seen.then(status="timed_out", progress=40, message="no heartbeat")
    assert _steps(seen) == [("read", "failed", 40, at(1), at(2))]


def test_a_run_that_temporal_calls_completed_is_at_100() -> None:
    seen = given(step(40)).when(temporal("completed"))

    seen.then(status="completed", progress=100)
    assert _steps(seen) == [("read", "completed", 40, at(1), at(2))]


@pytest.mark.parametrize("status", ["pending", "running", "unknown"])
def test_an_open_status_changes_nothing_but_the_time(status: Status) -> None:
    given(step(40)).when(temporal(status)).then(status="running", progress=40, updated=at(2))


def test_temporal_may_be_the_first_to_speak() -> None:
    given().when(temporal("failed").by("ada")).then(status="failed", started=at(1), user_id="ada")


def test_temporals_word_on_a_run_whose_id_nobody_told_is_late_once_it_ended() -> None:
    """The worker ended it and told no run id: what Temporal closes is most likely that very run."""
    given(step(100)).when(temporal("failed", run="a")).then_late()


def test_temporals_word_on_another_run_is_that_run_when_ids_are_known() -> None:
    given(step(100, run="a")).when(temporal("terminated", run="b")).then(status="terminated", run_id="b", progress=0)


def test_a_straggler_of_the_run_before_the_one_that_temporal_ended_is_late() -> None:
    ended = given(step(40, run="a")).when(temporal("terminated", run="b"))

    ended.then(run_id="b", previous_run_id="a").when(step(41, run="a")).then_late()


# Steps


def test_a_new_step_completes_the_one_before_and_the_end_ends_the_last() -> None:
    seen = given(step(10, "read"), step(20, "read"), step(30, "write")).when(step(35, "write", error="full"))

    assert _steps(seen) == [
        ("read", "completed", 20, at(1), at(3)),
        ("write", "failed", 35, at(3), at(4)),
    ]


def test_a_view_keeps_its_latest_steps() -> None:
    seen = given(*(step(1, f"step {number}") for number in range(MAX_STEPS + 5)))

    names = [name for name, *_ in _steps(seen)]
    assert (len(names), names[0], names[-1]) == (MAX_STEPS, "step 5", f"step {MAX_STEPS + 4}")


# AI steps


def test_deltas_of_one_step_are_joined() -> None:
    seen = given(ai("Hello", model="m", progress=10)).when(ai(", world", message="writing"))

    ai_view = _ai(seen)
    assert (ai_view.text, ai_view.model, ai_view.progress, ai_view.message) == ("Hello, world", "m", 10, "writing")
    seen.then(status="running", updated=at(2))


def test_another_step_or_run_begins_a_text_of_its_own() -> None:
    assert _ai(given(ai("one")).when(ai("two", "translate"))).text == "two"
    assert _ai(given(ai("one", run="a")).when(ai("two", run="b"))).text == "two"


def test_a_long_text_is_cut_and_says_so() -> None:
    fitting = given(ai("x" * (MAX_AI_TEXT - 1))).when(ai("y"))
    assert (_ai(fitting).text[-2:], _ai(fitting).truncated) == ("xy", False)

    cut = fitting.when(ai("z"), ai("z"))
    assert (len(_ai(cut).text), _ai(cut).text[-1], _ai(cut).truncated) == (MAX_AI_TEXT, "y", True)


def test_an_ai_event_does_not_open_a_run_that_ended() -> None:
    given(step(100)).when(ai("more")).then(status="completed")


# Files


def test_a_file_follows_its_analysis_the_same_way() -> None:
    file = Topic("default", "file", "f")

    given(analysis(10), topic=file).when(analysis(100, result={"words": 3})).then(
        status="completed", result={"words": 3}
    ).when(analysis(20)).then_late().when(analysis(0)).then(status="running", result=None)


def test_a_view_refuses_events_that_are_not_its_own() -> None:
    with pytest.raises(TypeError, match="no event of a workflow"):
        given().when(analysis(10))
    with pytest.raises(TypeError, match="no event of a file"):
        given(topic=Topic("default", "file", "f")).when(step(10))
