"""The view of a user: what is active, how much ended, what they were told.

A user hears from every source stream partition, in no fixed order between them. So the state has a part per
partition, folded from that partition alone, and `render` merges the parts by stream id. Each part is bounded: of a
user with 100,000 workflows it knows the 100 active and 100 ended ones that spoke last.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from pydantic import Field
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
from pipai_contracts.frozen import Frozen
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

MAX_ENDED: Final = 100


class RunState(NamedTuple):
    """The latest run of one of the user's workflows or files; ``at`` is the stream id of its last event.

    A tuple, because it is made anew for every event; fields are added at its end only, with a default.
    """

    status: Status
    run_id: str | None
    previous_run_id: str | None
    step: str | None
    progress: Progress
    message: str | None
    updated: str
    at: tuple[int, int]


class SourceState(Frozen):
    """What one source stream partition told. Both dicts are in the order of the last event."""

    active: dict[str, RunState] = Field(default_factory=dict[str, RunState])
    ended: dict[str, RunState] = Field(default_factory=dict[str, RunState])
    notifications: tuple[NotificationItem, ...] = ()
    counts: Counts = Counts()
    updated: str


class UserState(Frozen):
    """The state of a user: a part per source stream partition."""

    id: str
    sources: dict[str, SourceState] = Field(default_factory=dict[str, SourceState])


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
    if folded.updated < time:
        folded = folded.changed(updated=time)
    sources = {**state.sources, record.source: folded}
    if record.source not in state.sources:  # in one order whatever came first: a rebuild is to give the same bytes
        sources = dict(sorted(sources.items()))
    return state.changed(sources=sources)


def _fold_run(
    part: SourceState, key: str, event: WorkflowProgress | AnalysisProgress, record: Record
) -> SourceState | None:
    run_id = record.envelope.run_id
    known = part.active.get(key) or part.ended.get(key)
    if known is not None and is_late(known, run_id, begins=event.progress == 0):
        return None
    run_id, previous = _in_line(known, run_id)
    run = RunState(
        status=status_of(event),
        run_id=run_id,
        previous_run_id=previous,
        step=event.step,
        progress=event.progress,
        message=event.message[:MAX_LISTED_MESSAGE] if event.message is not None else None,
        updated=record.envelope.time,
        at=record.stream_id,
    )
    return _place(part, key, run)


def _fold_temporal(part: SourceState, key: str, event: TemporalStatus, record: Record) -> SourceState | None:
    if event.status not in TERMINAL:
        return part
    run_id = record.envelope.run_id
    known = part.active.get(key) or part.ended.get(key)
    if known is not None:
        unknown_run = known.run_id is None and known.status in TERMINAL
        if unknown_run or is_late(known, run_id, begins=False):
            return None
    run_id, previous = _in_line(known, run_id)
    run = RunState(
        status=event.status,
        run_id=run_id,
        previous_run_id=previous,
        step=None,
        progress=0,
        message=None,
        updated=record.envelope.time,
        at=record.stream_id,
    )
    return _place(part, key, run)


def _in_line(known: RunState | None, run_id: str | None) -> tuple[str | None, str | None]:
    """The ids of the run after an event of ``run_id``, and of the run before it."""
    if known is None:
        return run_id, None
    another = run_id is not None and known.run_id is not None and run_id != known.run_id
    if known.status in TERMINAL or another:
        return run_id, known.run_id
    return run_id or known.run_id, known.previous_run_id


def _place(part: SourceState, key: str, run: RunState) -> SourceState:
    """The run put last among the active or the ended; what is over the bound is forgotten."""
    updated = max(part.updated, run.updated)
    if run.status not in TERMINAL:
        active = _with_last(part.active, key, run, MAX_LISTED)
        return part.changed(active=active, ended=_without(part.ended, key), updated=updated)
    counts = part.counts.changed(**{run.status: getattr(part.counts, run.status) + 1})
    ended = _with_last(part.ended, key, run, MAX_ENDED)
    return part.changed(active=_without(part.active, key), ended=ended, counts=counts, updated=updated)


def _without(runs: dict[str, RunState], key: str) -> dict[str, RunState]:
    return {other: run for other, run in runs.items() if other != key} if key in runs else runs


def _with_last(runs: dict[str, RunState], key: str, run: RunState, bound: int) -> dict[str, RunState]:
    latest = runs.copy()
    latest.pop(key, None)
    latest[key] = run
    while len(latest) > bound:
        del latest[next(iter(latest))]
    return latest


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
    counts = part.counts.changed(notifications=part.counts.notifications + 1)
    return part.changed(notifications=(item, *part.notifications)[:MAX_LISTED], counts=counts)


def named(state: UserState) -> set[str]:
    """The names of the topics that the state tells of."""
    return {_topic_name(source, key) for source, part in state.sources.items() for key in (*part.active, *part.ended)}


def without(state: UserState, is_gone: Callable[[str, int], bool]) -> UserState:
    """The state without topics, which are told by their name and when (ms) their last event was appended.

    What was counted of them stays counted. It is the very same state when none is gone.
    """
    sources = {name: _part_without(name, part, is_gone) for name, part in state.sources.items()}
    same = all(sources[name] is part for name, part in state.sources.items())
    return state if same else state.changed(sources=sources)


def _part_without(source: str, part: SourceState, is_gone: Callable[[str, int], bool]) -> SourceState:
    gone = {
        key for runs in (part.active, part.ended) for key, run in runs.items()
        if is_gone(_topic_name(source, key), run.at[0])
    }  # fmt: skip
    if not gone:
        return part
    active, ended = ({key: run for key, run in runs.items() if key not in gone} for runs in (part.active, part.ended))
    return part.changed(active=active, ended=ended)


def _topic_name(source: str, key: str) -> str:
    return f"workflow:{key}" if source.startswith("workflow:") else f"file:{key}"


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
