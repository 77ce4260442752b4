"""CloudEvents 1.0 as a way to publish: which attribute becomes what.

| CloudEvent | event |
|---|---|
| ``type`` | the event's type, alone or after ``pipai.``: ``pipai.workflow_progress`` |
| ``subject`` | id of the workflow, file or user |
| ``source`` and ``id`` | ``event_id``: both, with a space between; when that is too long, a hash of it |
| ``time`` | ``timestamp`` |
| ``userid``, ``runid`` (extensions) | ``user_id``, ``run_id`` |
| ``correlationid``, ``causationid`` (extensions) | ``correlation_id``, ``causation_id`` |
| ``data`` | the fields that the endpoint of this type takes in its body |

Two sources may use one id for different events, so the id alone would lose the second as a repeat. Other attributes say
nothing about the event and are left out.
"""

from hashlib import blake2b
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from pipai_contracts.batch import ITEMS
from pipai_contracts.ids import MAX_ID_LENGTH, ResourceId
from pipai_contracts.times import Timestamp

TYPE_PREFIX: Final = "pipai."

MAX_ATTRIBUTE: Final = 2_000
"""Characters of an attribute that is not kept as it is."""


def _check_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must have printable characters only")
    return text


def _check_source(source: str) -> str:
    if " " in source:
        raise ValueError("must be a URI reference, which has no spaces")
    return _check_printable(source)


def _check_type(name: str) -> str:
    if name.removeprefix(TYPE_PREFIX) not in ITEMS:
        raise ValueError(f"must be one of {', '.join(TYPE_PREFIX + item for item in ITEMS)}")
    return name


def _check_json_type(content_type: str | None) -> str | None:
    if content_type is not None and content_type.partition(";")[0].strip().lower() != "application/json":
        raise ValueError("must be application/json")
    return content_type


_Attribute = Annotated[str, Field(min_length=1, max_length=MAX_ATTRIBUTE)]


class CloudEvent(BaseModel):
    """A CloudEvent that publishes an event; extensions nobody here knows may be there."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"]
    id: Annotated[_Attribute, AfterValidator(_check_printable)]
    source: Annotated[_Attribute, AfterValidator(_check_source)]
    type: Annotated[str, AfterValidator(_check_type)]
    subject: ResourceId
    time: Timestamp | None = None
    datacontenttype: Annotated[str | None, AfterValidator(_check_json_type)] = None
    userid: ResourceId | None = None
    runid: ResourceId | None = None
    correlationid: ResourceId | None = None
    causationid: ResourceId | None = None
    data: dict[str, Any]

    @model_validator(mode="after")
    def _say_it_once(self) -> Self:
        twice = self._outer().keys() & self.data.keys()
        if twice:
            raise ValueError(f"data.{min(twice)} is said by an attribute already")
        return self

    @property
    def event_id(self) -> str:
        """The same for the same event of the same source, and for no other: a source has no spaces."""
        both = f"{self.source} {self.id}"
        return (
            both if len(both) <= MAX_ID_LENGTH else f"cloudevent {blake2b(both.encode(), digest_size=24).hexdigest()}"
        )

    def item(self) -> dict[str, Any]:
        """The event as an item of a batch, not checked yet."""
        return {**self.data, **self._outer()}

    def _outer(self) -> dict[str, str]:
        event_type = self.type.removeprefix(TYPE_PREFIX)
        said = {
            "type": event_type,
            "event_id": self.event_id,
            "timestamp": self.time,
            "run_id": self.runid,
            "user_id": self.userid,
            "correlation_id": self.correlationid,
            "causation_id": self.causationid,
        }
        outer = {name: value for name, value in said.items() if value is not None}
        outer[ITEMS[event_type].id_field] = self.subject  # a notification's subject is its user, whatever userid says
        return outer


ATTRIBUTE_OF: Final = {
    "event_id": "id",
    "timestamp": "time",
    "run_id": "runid",
    "correlation_id": "correlationid",
    "causation_id": "causationid",
    "workflow_id": "subject",
    "file_id": "subject",
}
"""Where a fault of an item's field stands in its CloudEvent, if not in ``data``."""
