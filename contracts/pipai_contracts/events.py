"""What can happen: a closed union of immutable events, told apart by ``type``.

An event's data is what viewers get in the ``data:`` line of an SSE message, the type aside.
"""

import math
from typing import Annotated, Any, Final, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    TypeAdapter,
    WithJsonSchema,
)

from pipai_contracts.ids import Kind, ResourceId

SCHEMA_VERSION: Final = 1
"""``v`` of every event this build writes."""

MAX_EVENT_BYTES: Final = 256 * 1024
"""Largest JSON form of one event's data."""

MAX_DEPTH: Final = 100
"""Levels of lists and objects in metadata and results. JSON readers end at 200, and a view that cannot be read back
would stop the events of everyone."""


MAX_VALUES: Final = 10_000
"""Values in metadata or a result, lists and objects counted too. In memory each takes many times its one or two bytes
of JSON, so that a few events could fill a process."""


def _check_json(value: Any) -> Any:
    """Refuse what could not be sent on unchanged: ``1e400`` parses to infinity, and views nest deeper than events."""
    level: list[Any] = [value]
    depth = count = 0
    while level:
        depth += 1
        count += len(level)
        if count > MAX_VALUES:
            raise ValueError(f"has more than {MAX_VALUES} values")
        if depth > MAX_DEPTH and any(isinstance(item, dict | list) for item in level):
            raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
        following: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                following.extend(cast("dict[str, Any]", item).values())
            elif isinstance(item, list):
                following.extend(cast("list[Any]", item))
            elif isinstance(item, float) and not math.isfinite(item):
                raise ValueError("has a number that is too large or not a number")
        level = following
    return value


def _shorten(value: float) -> float:
    """50 rather than 50.0, as producers write it and viewers expect it."""
    return int(value) if value == int(value) else value


Json = Annotated[JsonValue, AfterValidator(_check_json)]
Metadata = Annotated[dict[str, JsonValue], AfterValidator(_check_json)]
Progress = Annotated[
    float,
    Field(ge=0, le=100, allow_inf_nan=False, strict=True),
    AfterValidator(_shorten),
    PlainSerializer(_shorten, return_type=int | float),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 100}),
]
Flag = Annotated[bool, Field(strict=True)]
Step = Annotated[str, Field(min_length=1, max_length=200)]
Status = Literal["pending", "running", "completed", "failed", "canceled", "terminated", "timed_out", "unknown"]
Level = Literal["info", "success", "warning", "error"]


class Event(BaseModel):
    """Base of all events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def subject(self) -> tuple[Kind, str]:
        """Kind and id of the topic the event was published to."""
        raise TypeError(f"{type(self).__name__} is no event of its own")


class WorkflowProgress(Event):
    """A workflow moved, ended or failed."""

    type: Literal["workflow_progress"] = "workflow_progress"
    workflow_id: ResourceId
    step: Step
    progress: Progress
    message: str | None = None
    error: str | None = None
    canceled: Flag | None = None
    result: Json | None = None
    metadata: Metadata | None = None

    @property
    def subject(self) -> tuple[Kind, str]:
        """Kind and id of the workflow."""
        return "workflow", self.workflow_id


class AnalysisProgress(Event):
    """The analysis of a file moved, ended or failed."""

    type: Literal["analysis_progress"] = "analysis_progress"
    file_id: ResourceId
    step: Step
    progress: Progress
    message: str | None = None
    error: str | None = None
    canceled: Flag | None = None
    result: Json | None = None
    metadata: Metadata | None = None

    @property
    def subject(self) -> tuple[Kind, str]:
        """Kind and id of the file."""
        return "file", self.file_id


class AiProgress(Event):
    """An AI step of a workflow moved; ``delta`` is text to append to what came before in that step."""

    type: Literal["ai_progress"] = "ai_progress"
    workflow_id: ResourceId
    step: Step
    progress: Progress | None = None
    message: str | None = None
    delta: str | None = None
    model: str | None = None
    result: Json | None = None
    metadata: Metadata | None = None

    @property
    def subject(self) -> tuple[Kind, str]:
        """Kind and id of the workflow the step belongs to."""
        return "workflow", self.workflow_id


class Notification(Event):
    """A message for a user."""

    type: Literal["notification"] = "notification"
    user_id: ResourceId
    title: Annotated[str, Field(min_length=1, max_length=500)]
    message: str
    level: Level = "info"
    link: Annotated[str | None, Field(max_length=2_000)] = None
    metadata: Metadata | None = None

    @property
    def subject(self) -> tuple[Kind, str]:
        """Kind and id of the user."""
        return "user", self.user_id


class TemporalStatus(Event):
    """What Temporal itself says of a workflow; a closed status ends a run its worker could not end."""

    type: Literal["temporal_status"] = "temporal_status"
    workflow_id: ResourceId
    status: Status
    message: str | None = None

    @property
    def subject(self) -> tuple[Kind, str]:
        """Kind and id of the workflow."""
        return "workflow", self.workflow_id


AnyEvent = Annotated[
    WorkflowProgress | AnalysisProgress | AiProgress | Notification | TemporalStatus,
    Field(discriminator="type"),
]
EventType = Literal["workflow_progress", "analysis_progress", "ai_progress", "notification", "temporal_status"]
any_event: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
