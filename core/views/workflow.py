"""The view of a workflow: a fold of its progress, of what Temporal says of it, and of its AI steps.

Its events come from two source streams, in no fixed order between them. So each stream has its own part of the
view: ``ai`` belongs to the AI stream, the rest to the workflow stream. What both touch comes out the same either way.
"""

from core.views.runs import begin_run, close_steps, fold_progress, follow_run, is_late
from pipai_contracts.events import AiProgress, TemporalStatus, WorkflowProgress
from pipai_contracts.record import Record
from pipai_contracts.views import MAX_AI_TEXT, TERMINAL, AiView, WorkflowView


def initial(workflow_id: str) -> WorkflowView:
    """A workflow nobody heard of."""
    return WorkflowView(id=workflow_id)


def evolve(view: WorkflowView, record: Record) -> WorkflowView:
    """The view after one more event; the very same view when the event came too late to count."""
    envelope = record.envelope
    match envelope.event:
        case WorkflowProgress() as event:
            return fold_progress(view, event, envelope.run_id, envelope.user_id, envelope.time)
        case TemporalStatus() as event:
            return _fold_temporal(view, event, record)
        case AiProgress() as event:
            return _fold_ai(view, event, record)
        case other:
            raise TypeError(f"{other.type} is no event of a workflow")


def _fold_temporal(view: WorkflowView, event: TemporalStatus, record: Record) -> WorkflowView:
    """Temporal's word ends a run its worker could not end; it begins one only when the view knows runs by id."""
    run_id, time = record.envelope.run_id, record.envelope.time
    told = {"user_id": record.envelope.user_id or view.user_id, "updated": max(view.updated or time, time)}
    if event.status not in TERMINAL:
        return view.changed(**told)
    unknown_run = view.run_id is None and view.status in TERMINAL
    if unknown_run or is_late(view, run_id, begins=False):
        return view
    if view.status in TERMINAL:
        view = begin_run(view, run_id)
    run_id, previous_run_id = follow_run(view, run_id)
    return view.changed(
        **told,
        run_id=run_id,
        previous_run_id=previous_run_id,
        status=event.status,
        progress=100 if event.status == "completed" else view.progress,
        message=event.message or view.message,
        steps=close_steps(view.steps, event.status, time),
        started=view.started or time,
    )


def _fold_ai(view: WorkflowView, event: AiProgress, record: Record) -> WorkflowView:
    run_id, time = record.envelope.run_id, record.envelope.time
    before = view.ai
    same_step = before is not None and before.run_id == run_id and before.step == event.step
    if before is None or not same_step:
        before = AiView(run_id=run_id, step=event.step, updated=time)
    text = before.text + (event.delta or "")
    ai = AiView(
        run_id=run_id,
        step=event.step,
        progress=event.progress if event.progress is not None else before.progress,
        message=event.message if event.message is not None else before.message,
        model=event.model or before.model,
        text=text[:MAX_AI_TEXT],
        truncated=before.truncated or len(text) > MAX_AI_TEXT,
        result=event.result if event.result is not None else before.result,
        updated=time,
    )
    return view.changed(
        ai=ai,
        status="running" if view.status == "pending" else view.status,
        user_id=view.user_id or record.envelope.user_id,
        updated=max(view.updated or time, time),
    )
