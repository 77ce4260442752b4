"""The view of a user: what is active, how much ended, what they were told.

A user hears from every source stream partition, in no fixed order between them. So the state has a part per
partition, folded from that partition alone, and `render` merges the parts by stream id. Each part is bounded: of a
user with 100,000 workflows it knows the 100 active and 100 ended ones that spoke last.
"""

from typing import Final

from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

from core.views.runs import is_late, status_of
from pipai_contracts.events import (
    AiProgress,
    AnalysisProgress,
    Notification,
    Progress,
    Status,
    TemporalStatus,
    WorkflowProgress,
)
from pipai_contracts.record import Record
from pipai_contracts.views import (
    MAX_LISTED,
    MAX_LISTED_MESSAGE,
    MAX_LISTED_METADATA,
    TERMINAL,
    ActiveItem,
    Counts,
    NotificationItem,
    UserView,
)

_MAX_ENDED: Final = 100


class _State(BaseModel):
    model_config = ConfigDict(frozen=True)


class RunState(_State):
    """The latest run of one of the user's workflows or files; ``at`` is the stream id of its last event."""

    status: Status
    run_id: str | None = None
    previous_run_id: str | None = None
    step: str | None = None
    progress: Progress = 0
    message: str | None = None
    updated: str
    at: tuple[int, int]


class SourceState(_State):
    """What one source stream partition told. Both dicts are in the order of the last event."""

    active: dict[str, RunState] = {}
    ended: dict[str, RunState] = {}
    notifications: tuple[NotificationItem, ...] = ()
    counts: Counts = Counts()
    updated: str


class UserState(_State):
    """The state of a user: a part per source stream partition."""

    id: str
    sources: dict[str, SourceState] = {}


def initial(user_id: str) -> UserState:
    """A user nobody heard of."""
    return UserState(id=user_id)


def evolve(state: UserState, record: Record) -> UserState:
    """The state after one more event; the very same state when the event came too late to count."""
    time = record.envelope.time
    part = state.sources.get(record.source) or SourceState(updated=time)
    match record.envelope.event:
        case WorkflowProgress(workflow_id=run_of) | AnalysisProgress(file_id=run_of) as event:
            folded = _fold_run(part, run_of, event, record)
        case TemporalStatus(workflow_id=workflow_id) as event:
            folded = _fold_temporal(part, workflow_id, event, record)
        case AiProgress():
            folded = part
        case Notification() as event:
            folded = _fold_notification(part, event, record)
    if folded is None:
        return state
    folded = folded.model_copy(update={"updated": max(folded.updated, time)})
    # In one order whatever came first: a rebuild is to give the same bytes.
    sources = dict(sorted({**state.sources, record.source: folded}.items()))
    return state.model_copy(update={"sources": sources})


def _fold_run(
    part: SourceState, key: str, event: WorkflowProgress | AnalysisProgress, record: Record
) -> SourceState | None:
    run_id = record.envelope.run_id
    known = part.active.get(key) or part.ended.get(key)
    if known is not None and is_late(known, run_id, begins=event.progress == 0):
        return None
    run = RunState(
        status=status_of(event),
        step=event.step,
        progress=event.progress,
        message=event.message[:MAX_LISTED_MESSAGE] if event.message is not None else None,
        updated=record.envelope.time,
        at=record.stream_id,
    )
    return _place(part, key, _in_line(run, known, run_id))


def _fold_temporal(part: SourceState, key: str, event: TemporalStatus, record: Record) -> SourceState | None:
    if event.status not in TERMINAL:
        return part
    run_id = record.envelope.run_id
    known = part.active.get(key) or part.ended.get(key)
    if known is not None:
        unknown_run = known.run_id is None and known.status in TERMINAL
        if unknown_run or is_late(known, run_id, begins=False):
            return None
    run = RunState(status=event.status, updated=record.envelope.time, at=record.stream_id)
    return _place(part, key, _in_line(run, known, run_id))


def _in_line(run: RunState, known: RunState | None, run_id: str | None) -> RunState:
    """The run with its id and that of the run before it."""
    previous = None
    if known is not None:
        another = run_id is not None and known.run_id is not None and run_id != known.run_id
        if known.status in TERMINAL or another:
            previous = known.run_id
        else:
            run_id, previous = run_id or known.run_id, known.previous_run_id
    return run.model_copy(update={"run_id": run_id, "previous_run_id": previous})


def _place(part: SourceState, key: str, run: RunState) -> SourceState:
    """The run put last among the active or the ended; what is over the bound is forgotten."""
    active = {name: other for name, other in part.active.items() if name != key}
    ended = {name: other for name, other in part.ended.items() if name != key} if key in part.ended else part.ended
    counts = part.counts
    if run.status in TERMINAL:
        ended = _latest({**ended, key: run}, _MAX_ENDED)
        counts = counts.model_copy(update={run.status: getattr(counts, run.status) + 1})
    else:
        active = _latest({**active, key: run}, MAX_LISTED)
    return part.model_copy(update={"active": active, "ended": ended, "counts": counts})


def _latest(runs: dict[str, RunState], bound: int) -> dict[str, RunState]:
    excess = len(runs) - bound
    return dict(list(runs.items())[excess:]) if excess > 0 else runs


def _fold_notification(part: SourceState, event: Notification, record: Record) -> SourceState:
    item = NotificationItem(
        event_id=record.envelope.event_id,
        title=event.title,
        message=event.message[:MAX_LISTED_MESSAGE],
        level=event.level,
        link=event.link,
        metadata=event.metadata if len(to_json(event.metadata)) <= MAX_LISTED_METADATA else None,
        timestamp=record.envelope.time,
    )
    counts = part.counts.model_copy(update={"notifications": part.counts.notifications + 1})
    return part.model_copy(update={"notifications": (item, *part.notifications)[:MAX_LISTED], "counts": counts})


def render(state: UserState) -> UserView:
    """The view: parts merged, newest first."""
    parts = state.sources.items()
    workflows = _listed([part for name, part in parts if name.startswith("workflow:")])
    files = _listed([part for name, part in parts if name.startswith("analysis:")])
    totals = {name: sum(getattr(part.counts, name) for part in state.sources.values()) for name in Counts.model_fields}
    return UserView(
        id=state.id,
        workflows=workflows,
        files=files,
        notifications=tuple(item for part in state.sources.values() for item in part.notifications)[:MAX_LISTED],
        counts=Counts(**{**totals, "active": len(workflows) + len(files)}),
        updated=max((part.updated for part in state.sources.values()), default=None),
    )


def _listed(parts: list[SourceState]) -> tuple[ActiveItem, ...]:
    runs = [(run.at, key, run) for part in parts for key, run in part.active.items()]
    runs.sort(key=lambda entry: entry[:2], reverse=True)
    return tuple(
        ActiveItem(
            id=key,
            run_id=run.run_id,
            step=run.step,
            progress=run.progress,
            message=run.message,
            updated=run.updated,
        )
        for _, key, run in runs[:MAX_LISTED]
    )
