"""Bodies of the publish endpoints and their answer."""

from typing import Annotated, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

from pipai_contracts.envelope import encode_fields
from pipai_contracts.events import SCHEMA_VERSION, EventType, Flag, Json, Level, Metadata, Progress, Step
from pipai_contracts.ids import DEFAULT_TENANT, Kind, ResourceId, Topic
from pipai_contracts.sealed import Sealed
from pipai_contracts.times import Timestamp


class PublishBody(BaseModel):
    """What every publish body may carry beside its event.

    ``event_id`` makes a repeat recognisable; ``user_id`` says who owns the topic; ``run_id`` tells the lives
    of a workflow apart; ``timestamp`` is when it happened, if not now. ``correlation_id`` is shared by everything that
    came of one request, ``causation_id`` names the event this one came of: both are for who looks for it later.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_type: ClassVar[EventType]
    kind: ClassVar[Kind]
    id_field: ClassVar[str]

    event_id: ResourceId | None = None
    user_id: ResourceId | None = None
    run_id: ResourceId | None = None
    timestamp: Timestamp | None = None
    correlation_id: ResourceId | None = None
    causation_id: ResourceId | None = None

    def seal(self, resource_id: str, *, new_id: str, now: str) -> Sealed:
        """The event this body publishes to ``resource_id``; ``new_id`` and ``now`` stand in for what was not given.

        The body's fields are the event's, checked alike, so no event has to be made of them first.

        Raises:
            EventTooLargeError: the event is over 256 KiB.
        """
        fields = self.__dict__.items()
        data = {name: value for name, value in fields if value is not None and name not in _BESIDE_THE_EVENT}
        return Sealed(
            self.event_id or new_id,
            self.event_type,
            SCHEMA_VERSION,
            Topic(DEFAULT_TENANT, self.kind, resource_id),
            self.user_id,
            self.run_id,
            self.timestamp or now,
            encode_fields({self.id_field: resource_id, **data}),
            self.event_id is None,
            self.correlation_id,
            self.causation_id,
        )


_BESIDE_THE_EVENT: Final = frozenset(PublishBody.model_fields) | {"type"}


class _ProgressBody(PublishBody):
    step: Step
    progress: Progress
    message: str | None = None
    error: str | None = None
    canceled: Flag | None = None
    result: Json | None = None
    metadata: Metadata | None = None


class PublishWorkflow(_ProgressBody):
    """Body of ``POST /stream/publish/workflow/{workflow_id}``."""

    event_type = "workflow_progress"
    kind = "workflow"
    id_field = "workflow_id"


class PublishAnalysis(_ProgressBody):
    """Body of ``POST /stream/publish/analysis/{file_id}``."""

    event_type = "analysis_progress"
    kind = "file"
    id_field = "file_id"


class PublishAi(PublishBody):
    """Body of ``POST /stream/publish/ai/{workflow_id}``."""

    event_type = "ai_progress"
    kind = "workflow"
    id_field = "workflow_id"

    step: Step
    progress: Progress | None = None
    message: str | None = None
    delta: str | None = None
    model: str | None = None
    result: Json | None = None
    metadata: Metadata | None = None


class PublishNotification(PublishBody):
    """Body of ``POST /stream/publish/notification/{user_id}``."""

    event_type = "notification"
    kind = "user"
    id_field = "user_id"

    title: Annotated[str, Field(min_length=1, max_length=500)]
    message: str
    level: Level = "info"
    link: Annotated[str | None, Field(max_length=2_000)] = None
    metadata: Metadata | None = None


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
