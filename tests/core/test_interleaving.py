"""Views do not depend on how the source streams happened to interleave."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from core.views.folds import encode_state, evolve, initial, render
from pipai_contracts.events import Status
from pipai_contracts.ids import Topic
from pipai_contracts.record import Record
from pipai_contracts.views import UserView, WorkflowView
from tests.core.telling import Told, ai, analysis, notice, records, step, temporal

WORKFLOW = Topic("default", "workflow", "w")
ADA = Topic("default", "user", "ada")

runs = st.sampled_from([None, "a", "b", "c"])
owners = st.sampled_from([None, "ada"])
progresses = st.sampled_from([0, 40, 100])
statuses: st.SearchStrategy[Status] = st.sampled_from(["running", "completed", "failed", "terminated"])
ids = st.sampled_from(["w", "v"])


@st.composite
def told_events(draw: st.DrawFn) -> Told:
    """Any event of two workflows, a file and their user, at any time of the day."""
    run, of, progress = draw(runs), draw(ids), draw(progresses)
    told = draw(
        st.sampled_from(
            [
                step(progress, of=of, run=run),
                step(progress, of=of, run=run, error="no"),
                analysis(progress, f"step {progress}", run=run),
                ai("x", of=of, run=run),
                ai("yz", "translate", of=of, run=run),
                temporal(draw(statuses), of=of, run=run),
                notice("hello"),
            ]
        )
    )
    return Told(told.event, told.run, draw(owners), draw(st.integers(0, 9)))


def _interleave(stretches: list[list[Record]], draw: st.DataObject) -> list[Record]:
    """The events of all streams in some order that keeps each stream's own."""
    left = [list(stretch) for stretch in stretches if stretch]
    mixed: list[Record] = []
    while left:
        chosen = left[draw.draw(st.integers(0, len(left) - 1))]
        mixed.append(chosen.pop(0))
        left = [stretch for stretch in left if stretch]
    return mixed


def _views(told: Sequence[Record]) -> list[bytes]:
    """The views of the workflow and of the user, byte for byte, as they are stored and as they are shown."""
    states = {WORKFLOW: initial(WORKFLOW), ADA: initial(ADA)}
    for record in told:
        for topic in record.topics:
            if topic in states:
                states[topic] = evolve(states[topic], record)
    shown = [render(state).model_dump_json().encode() for state in states.values()]
    return [*shown, *(encode_state(state) for state in states.values())]


@given(st.lists(told_events(), max_size=12), st.data())
def test_any_interleaving_of_the_streams_gives_the_same_views(told: list[Told], draw: st.DataObject) -> None:
    log = records(told)
    streams = sorted({record.source for record in log})
    mixed = _interleave([[record for record in log if record.source == name] for name in streams], draw)

    assert _views(mixed) == _views(log)


@given(st.lists(told_events(), max_size=20))
def test_a_workflow_and_its_owner_agree_on_what_runs_and_what_was_late(told: list[Told]) -> None:
    workflow, user = initial(WORKFLOW), initial(ADA)
    for record in records([one.by("ada") for one in told]):
        if record.source != "workflow:progress" or record.envelope.topic != WORKFLOW:
            continue
        before = workflow, user
        workflow, user = evolve(workflow, record), evolve(user, record)
        assert (workflow is before[0]) == (user is before[1])
    seen, owners = render(workflow), render(user)

    assert isinstance(seen, WorkflowView)
    assert isinstance(owners, UserView)
    running = [(seen.id, seen.run_id, seen.progress)] if seen.status == "running" else []
    assert [(item.id, item.run_id, item.progress) for item in owners.workflows] == running
