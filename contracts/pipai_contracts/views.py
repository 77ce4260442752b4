"""Views: the current state of a topic, as viewers get it."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from pipai_contracts.events import Level, Progress, Status
from pipai_contracts.frozen import Frozen
from pipai_contracts.ids import Kind

MAX_STEPS: Final = 100
"""Steps a view keeps; the oldest go first."""

MAX_AI_TEXT: Final = 32 * 1024
"""Characters of joined deltas a view keeps; the end is cut, ``truncated`` tells."""

MAX_LISTED: Final = 100
"""Active workflows, active files and latest notifications of a user view, each."""

MAX_LISTED_MESSAGE: Final = 1_000
"""Characters of a message in a user view; the event in the feed has all of it."""

MAX_LISTED_METADATA: Final = 2 * 1024
"""Bytes of JSON: metadata of a notification that is larger is left out of the user view, not of the feed."""

TERMINAL: Final[frozenset[Status]] = frozenset({"completed", "failed", "canceled", "terminated", "timed_out"})
"""Statuses that end a run."""

StepState = Literal["running", "completed", "failed", "canceled"]


class _View(Frozen):
    model_config = ConfigDict(extra="forbid")


class StepView(_View):
    """One step of a run. ``progress`` is the run's progress when the step last spoke."""

    name: str
    state: StepState
    progress: Progress
    started: str
    ended: str | None = None


class AiView(_View):
    """The latest AI step; ``text`` joins the deltas of this step."""

    run_id: str | None = None
    step: str
    progress: Progress | None = None
    message: str | None = None
    model: str | None = None
    text: str = ""
    truncated: bool = False
    result: JsonValue = None
    updated: str


class RunView(_View):
    """What workflow and file views share: the state of the latest run.

    ``previous_run_id`` is the run that ended before this one: what still comes from it is late.
    """

    id: str
    run_id: str | None = None
    previous_run_id: str | None = None
    user_id: str | None = None
    status: Status = "pending"
    step: str | None = None
    progress: Progress = 0
    message: str | None = None
    error: str | None = None
    result: JsonValue = None
    metadata: dict[str, JsonValue] | None = None
    steps: tuple[StepView, ...] = ()
    started: str | None = None
    updated: str | None = None


class WorkflowView(RunView):
    """The state of a workflow."""

    ai: AiView | None = None


class FileView(RunView):
    """The state of a file's analysis."""


class ActiveItem(_View):
    """A workflow or file of a user that has not ended."""

    id: str
    run_id: str | None = None
    step: str | None = None
    progress: Progress
    message: str | None = None
    updated: str


class NotificationItem(_View):
    """A notification; what would make the view too large is cut or left out, see `MAX_LISTED_MESSAGE`."""

    event_id: str
    title: str
    message: str
    level: Level
    link: str | None = None
    metadata: dict[str, JsonValue] | None = None
    timestamp: str


class Counts(_View):
    """How many of the user's workflows and files ended, and how; ``active`` counts those listed."""

    active: int = 0
    completed: int = 0
    failed: int = 0
    canceled: int = 0
    terminated: int = 0
    timed_out: int = 0
    notifications: int = 0


class UserView(_View):
    """What a user is waiting for and was told: newest first, at most `MAX_LISTED` each."""

    id: str
    workflows: tuple[ActiveItem, ...] = ()
    files: tuple[ActiveItem, ...] = ()
    notifications: tuple[NotificationItem, ...] = ()
    counts: Counts = Counts()
    updated: str | None = None


AnyView = WorkflowView | FileView | UserView


class ViewAnswer(BaseModel):
    """Answer of ``GET /views/{kind}/{id}``."""

    kind: Kind
    id: str
    cursor: str
    view: AnyView


class FeedEvent(BaseModel):
    """One entry of a topic's feed, as ``GET /events/{kind}/{id}`` lists it."""

    cursor: str
    pos: Annotated[int, Field(ge=1)]
    event: str
    data: dict[str, JsonValue]


class EventsAnswer(BaseModel):
    """Answer of ``GET /events/{kind}/{id}``; ``next`` is the cursor to go on from, null at the end."""

    events: list[FeedEvent]
    next: str | None
