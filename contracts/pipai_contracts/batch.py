"""Many events in one request, and what became of each."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipai_contracts.ids import ResourceId
from pipai_contracts.problems import Problem
from pipai_contracts.publish import (
    PublishAi,
    PublishAnalysis,
    Published,
    PublishNotification,
    PublishWorkflow,
)
from pipai_contracts.sealed import Sealed

MAX_BATCH_EVENTS: Final = 10_000
MAX_BATCH_BYTES: Final = 16 * 1024 * 1024


class WorkflowItem(PublishWorkflow):
    """An event of a workflow: the body of its endpoint, and which workflow it is about."""

    type: Literal["workflow_progress"]
    workflow_id: ResourceId


class AnalysisItem(PublishAnalysis):
    """An event of a file."""

    type: Literal["analysis_progress"]
    file_id: ResourceId


class AiItem(PublishAi):
    """An event of an AI step of a workflow."""

    type: Literal["ai_progress"]
    workflow_id: ResourceId


class NotificationItem(PublishNotification):
    """A message; ``user_id`` says for whom."""

    type: Literal["notification"]
    user_id: ResourceId  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues] - models are frozen


Item = WorkflowItem | AnalysisItem | AiItem | NotificationItem
BatchItem = Annotated[Item, Field(discriminator="type")]

ITEMS: Final[dict[str, type[Item]]] = {
    "workflow_progress": WorkflowItem,
    "analysis_progress": AnalysisItem,
    "ai_progress": AiItem,
    "notification": NotificationItem,
}


def seal_item(item: Item, *, new_id: str, now: str) -> Sealed:
    """The item's event, as its endpoint would append it.

    Raises:
        EventTooLargeError: the event is over 256 KiB.
    """
    match item:
        case WorkflowItem() | AiItem():
            return item.seal(item.workflow_id, new_id=new_id, now=now)
        case AnalysisItem():
            return item.seal(item.file_id, new_id=new_id, now=now)
        case NotificationItem():
            # Its user is who it is for, and no owner besides.
            return item.seal(item.user_id, new_id=new_id, now=now)._replace(user_id=None)


class Stored(Published):
    """The event is in the log."""

    status: Literal["appended", "duplicate"]


class Refused(BaseModel):
    """``invalid``: the event is not in the log and never will be. ``unavailable``: it may be sent again.

    It could not be sent, or the answer to that did not come; then it may be in the log after all. Sent again with its
    ``event_id``, or the whole batch under its ``Idempotency-Key``, it is stored once.
    """

    model_config = ConfigDict(frozen=True)

    status: Literal["invalid", "unavailable"]
    error: Problem


Outcome = Annotated[Stored | Refused, Field(discriminator="status")]


class Counts(BaseModel):
    """How many events of a batch came to what."""

    model_config = ConfigDict(frozen=True)

    appended: int = 0
    duplicate: int = 0
    invalid: int = 0
    unavailable: int = 0


class BatchAnswer(BaseModel):
    """What became of each event, in the order of the request."""

    model_config = ConfigDict(frozen=True)

    counts: Counts
    outcomes: list[Outcome]
