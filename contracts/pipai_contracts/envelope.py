"""An event with everything the log keeps about it."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic_core import PydanticSerializationError, to_json

from pipai_contracts.events import MAX_EVENT_BYTES, SCHEMA_VERSION, AnyEvent
from pipai_contracts.frozen import Frozen
from pipai_contracts.ids import DEFAULT_TENANT, ResourceId, Tenant, Topic
from pipai_contracts.times import Timestamp


class EventTooLargeError(ValueError):
    """The event's data is larger than 256 KiB of JSON."""


class Envelope(Frozen):
    """One event on its way into the log.

    ``event_id`` is unique within the topic; ``user_id`` is who owns the topic, when the producer said so;
    ``time`` is when it happened, as the producer tells it. ``correlation_id`` is shared by everything that came of one
    request; ``causation_id`` names the event this one came of.
    """

    model_config = ConfigDict(extra="forbid")

    event_id: ResourceId
    v: Annotated[int, Field(ge=1)] = SCHEMA_VERSION
    tenant: Tenant = DEFAULT_TENANT
    user_id: ResourceId | None = None
    run_id: ResourceId | None = None
    time: Timestamp
    event: AnyEvent
    correlation_id: ResourceId | None = None
    causation_id: ResourceId | None = None

    @property
    def topic(self) -> Topic:
        """The topic the event was published to."""
        kind, resource_id = self.event.subject
        return Topic(self.tenant, kind, resource_id)


def encode_data(event: AnyEvent) -> bytes:
    """The event's data as compact JSON, without its type and without fields nobody set.

    Raises:
        EventTooLargeError: more than `MAX_EVENT_BYTES`.
    """
    return encode_fields({name: value for name, value in event if value is not None and name != "type"})


def encode_fields(fields: dict[str, Any]) -> bytes:
    """The fields of an event as `encode_data` writes them.

    Raises:
        EventTooLargeError: more than `MAX_EVENT_BYTES`.
    """
    try:
        data = to_json(fields)
    except PydanticSerializationError as error:  # nested deeper than JSON readers follow
        raise EventTooLargeError(f"the event cannot be written as JSON: {error}") from error
    if len(data) > MAX_EVENT_BYTES:
        raise EventTooLargeError(f"the event has {len(data)} bytes of JSON, more than {MAX_EVENT_BYTES}")
    return data
