"""Events as hypothesis tells them: every type, runs that end and begin again, of two workflows, a file and a user."""

from hypothesis import strategies as st

from pipai_contracts.events import Status
from tests.core.telling import Told, ai, analysis, notice, step, temporal

_runs = st.sampled_from([None, "a", "b", "c"])
_owners = st.sampled_from([None, "ada"])
_progresses = st.sampled_from([0, 40, 100])
_statuses: st.SearchStrategy[Status] = st.sampled_from(["running", "completed", "failed", "terminated"])
_ids = st.sampled_from(["w", "v"])
_seconds = st.integers(0, 9)


@st.composite
def told_events(draw: st.DrawFn) -> Told:
    """Any event, at any time of the day; an owned topic may be told without its owner."""
    run, of, progress = draw(_runs), draw(_ids), draw(_progresses)
    told = draw(
        st.sampled_from(
            [
                step(progress, of=of, run=run),
                step(progress, of=of, run=run, error="no"),
                step(progress, of=of, run=run, canceled=True),
                analysis(progress, f"step {progress}", run=run),
                analysis(progress, run=run, error="no"),
                ai("x", of=of, run=run),
                ai("yz", "translate", of=of, run=run),
                temporal(draw(_statuses), of=of, run=run),
                notice("hello"),
                notice("good bye", of="bob"),
            ]
        )
    )
    return Told(told.event, told.run, draw(_owners), draw(_seconds))
