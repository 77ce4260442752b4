"""Bodies of the publish endpoints and their answer."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pipai_contracts.envelope import Envelope
from pipai_contracts.events import (
    AiProgress,
    AnalysisProgress,
    AnyEvent,
    Flag,
    Json,
    Level,
    Metadata,
    Notification,
    Progress,
    Step,
    WorkflowProgress,
)
from pipai_contracts.ids import DEFAULT_TENANT, ResourceId
from pipai_contracts.times import Timestamp


class PublishBody(BaseModel):
    """What every publish body may carry beside its event.

    ``event_id`` makes a repeat recognisable; ``user_id`` says who owns the topic; ``run_id`` tells the lives
    of a workflow apart; ``timestamp`` is when it happened, if not now.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_id: ResourceId | None = None
    user_id: ResourceId | None = None
    run_id: ResourceId | None = None
    timestamp: Timestamp | None = None

    def event(self, resource_id: str) -> AnyEvent:
        """The event this body publishes to ``resource_id``."""
        raise TypeError(f"{type(self).__name__} publishes nothing to {resource_id}")

    def envelope(self, resource_id: str, *, new_id: str, now: str, tenant: str = DEFAULT_TENANT) -> Envelope:
        """The event with what the log needs; ``new_id`` and ``now`` stand in for what was not given."""
        return Envelope(
            event_id=self.event_id or new_id,
            tenant=tenant,
            user_id=self.user_id,
            run_id=self.run_id,
            time=self.timestamp or now,
            event=self.event(resource_id),
        )


class _ProgressBody(PublishBody):
    step: Step
    progress: Progress
    message: str | None = None
    error: str | None = None
    canceled: Flag | None = None
    result: Json | None = None
    metadata: Metadata | None = None

    def _fields(self) -> dict[str, object]:
        """The event's own fields."""
        return {name: value for name, value in self if name not in PublishBody.model_fields}


class PublishWorkflow(_ProgressBody):
    """Body of ``POST /stream/publish/workflow/{workflow_id}``."""

    def event(self, resource_id: str) -> AnyEvent:
        """A `WorkflowProgress`."""
        return WorkflowProgress.model_validate({"workflow_id": resource_id, **self._fields()})


class PublishAnalysis(_ProgressBody):
    """Body of ``POST /stream/publish/analysis/{file_id}``."""

    def event(self, resource_id: str) -> AnyEvent:
        """An `AnalysisProgress`."""
        return AnalysisProgress.model_validate({"file_id": resource_id, **self._fields()})


class PublishAi(PublishBody):
    """Body of ``POST /stream/publish/ai/{workflow_id}``."""

    step: Step
    progress: Progress | None = None
    message: str | None = None
    delta: str | None = None
    model: str | None = None
    result: Json | None = None
    metadata: Metadata | None = None

    def event(self, resource_id: str) -> AnyEvent:
        """An `AiProgress`."""
        return AiProgress(
            workflow_id=resource_id,
            step=self.step,
            progress=self.progress,
            message=self.message,
            delta=self.delta,
            model=self.model,
            result=self.result,
            metadata=self.metadata,
        )


class PublishNotification(PublishBody):
    """Body of ``POST /stream/publish/notification/{user_id}``."""

    title: Annotated[str, Field(min_length=1, max_length=500)]
    message: str
    level: Level = "info"
    link: Annotated[str | None, Field(max_length=2_000)] = None
    metadata: Metadata | None = None

    def event(self, resource_id: str) -> AnyEvent:
        """A `Notification`."""
        return Notification(
            user_id=resource_id,
            title=self.title,
            message=self.message,
            level=self.level,
            link=self.link,
            metadata=self.metadata,
        )


class Published(BaseModel):
    """Where an event stands in the log; ``duplicate`` when it already stood there.

    ``offset`` counts 1, 2, 3 … in ``stream``; ``stream_id`` is its Redis stream id.
    """

    model_config = ConfigDict(frozen=True)

    event_id: str
    stream: str
    stream_id: str
    topic: str
    offset: int
    duplicate: bool = False
