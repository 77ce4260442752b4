"""How a run goes: what workflow and file folds share."""

from typing import Final, Protocol, TypeVar

from pipai_contracts.events import AnalysisProgress, Status, WorkflowProgress
from pipai_contracts.views import MAX_STEPS, TERMINAL, RunView, StepState, StepView

ViewT = TypeVar("ViewT", bound=RunView)

_CUT_SHORT: Final[frozenset[Status]] = frozenset({"failed", "canceled"})
_STATE_OF: Final[dict[Status, StepState]] = {
    "completed": "completed",
    "failed": "failed",
    "canceled": "canceled",
}


def status_of(event: WorkflowProgress | AnalysisProgress) -> Status:
    """The status an event brings: what it says of the end decides before its progress does."""
    if event.canceled:
        return "canceled"
    if event.error is not None:
        return "failed"
    return "completed" if event.progress >= 100 else "running"  # noqa: PLR2004 - percent


class Run(Protocol):
    """What decides whether an event is late."""

    @property
    def status(self) -> Status:
        """Status of the latest run."""
        ...

    @property
    def run_id(self) -> str | None:
        """Its id, when a producer told one."""
        ...

    @property
    def previous_run_id(self) -> str | None:
        """Id of the run before it."""
        ...


def is_late(run: Run, run_id: str | None, *, begins: bool) -> bool:
    """Whether an event came after the run it belongs to had ended.

    ``begins``: the event would begin a new run if it names none.
    """
    if run_id is not None and run_id == run.previous_run_id:
        return True
    if run.status not in TERMINAL:
        return False
    if run_id is None:
        return not begins
    return run_id == run.run_id


def begin_run(view: ViewT, run_id: str | None) -> ViewT:
    """The view when another run begins: as new, but for what belongs to the topic."""
    return view.changed(
        run_id=run_id,
        previous_run_id=view.run_id,
        status="pending",
        step=None,
        progress=0,
        message=None,
        error=None,
        result=None,
        metadata=None,
        steps=(),
        started=None,
    )


def follow_run(view: RunView, run_id: str | None) -> tuple[str | None, str | None]:
    """The ids after an event of ``run_id``, this run's and the one's before.

    Another run takes over, and stragglers of the one before are late.
    """
    followed = run_id is not None and view.run_id is not None and run_id != view.run_id
    return run_id or view.run_id, view.run_id if followed else view.previous_run_id


def fold_progress(
    view: ViewT,
    event: WorkflowProgress | AnalysisProgress,
    run_id: str | None,
    user_id: str | None,
    time: str,
) -> ViewT:
    """The view after a progress event; a late one leaves it as it was."""
    if is_late(view, run_id, begins=event.progress == 0):
        return view
    if view.status in TERMINAL:
        view = begin_run(view, run_id)
    status = status_of(event)
    run_id, previous_run_id = follow_run(view, run_id)
    return view.changed(
        run_id=run_id,
        previous_run_id=previous_run_id,
        user_id=user_id or view.user_id,
        status=status,
        step=event.step,
        # Who tells an end for somebody else does not know how far it had come.
        progress=max(event.progress, view.progress) if status in _CUT_SHORT else event.progress,
        message=event.message,
        error=event.error,
        result=event.result if event.result is not None else view.result,
        metadata=event.metadata if event.metadata is not None else view.metadata,
        steps=fold_steps(view.steps, event.step, event.progress, status, time),
        started=view.started or time,
        updated=max(view.updated or time, time),
    )


def fold_steps(
    steps: tuple[StepView, ...], name: str, progress: float, status: Status, time: str
) -> tuple[StepView, ...]:
    """The steps after ``name`` spoke: a new name ends the step before it, the run's end ends all.

    Only the last step can be open.
    """
    ended = _STATE_OF.get(status)
    if steps and steps[-1].name == name:
        current = steps[-1].changed(progress=progress)
        before = steps[:-1]
    else:
        before = (*steps[:-1], _end(steps[-1], "completed", time))[1 - MAX_STEPS :] if steps else ()
        current = StepView(name=name, state="running", progress=progress, started=time)
    if ended is not None:
        current = _end(current, ended, time)
    return (*before, current)


def close_steps(steps: tuple[StepView, ...], status: Status, time: str) -> tuple[StepView, ...]:
    """The steps when the run ended without its own word."""
    state = _STATE_OF.get(status, "failed")
    return tuple(_end(step, state, time) for step in steps)


def _end(step: StepView, state: StepState, time: str) -> StepView:
    return step if step.ended else step.changed(state=state, ended=time)
