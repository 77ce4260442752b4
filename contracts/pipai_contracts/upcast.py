"""Reading events as they were written, also by older builds.

``v`` of an event says which form its data has. A form that was written once can be read for ever: each older version
has a function here that brings its data to the next, and recorded events that prove it (``tests/contracts/recorded``).
"""

from collections.abc import Callable
from typing import Any, Final, cast

from pydantic_core import SchemaValidator, from_json

from pipai_contracts.events import (
    SCHEMA_VERSION,
    AiProgress,
    AnalysisProgress,
    AnyEvent,
    Event,
    EventType,
    Notification,
    TemporalStatus,
    WorkflowProgress,
    any_event,
)

Upcaster = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Brings the data of an event of this type from one version to the next."""

UPCASTERS: Final[dict[int, Upcaster]] = {}
"""Version → what brings its data to the version after it. Empty as long as there is only one version."""

MODELS: Final[dict[EventType, type[Event]]] = {
    "workflow_progress": WorkflowProgress,
    "analysis_progress": AnalysisProgress,
    "ai_progress": AiProgress,
    "notification": Notification,
    "temporal_status": TemporalStatus,
}
_VALIDATORS: Final[dict[str, SchemaValidator]] = {
    name: cast("SchemaValidator", model.__pydantic_validator__) for name, model in MODELS.items()
}


MAX_VERSION: Final = 10_000
"""A larger number is no version: what has it was written by another hand, and nobody has to wait for it."""


class NewerVersionError(Exception):
    """The event was written by a newer build than this one: it is well, and has to wait for an upgrade."""


def is_newer(version: str) -> bool:
    """Whether the text is a version that only newer builds can read."""
    digits = len(str(MAX_VERSION))
    return (
        version.isascii()
        and version.isdecimal()
        and len(version) <= digits
        and (SCHEMA_VERSION < int(version) <= MAX_VERSION)
    )


def read_event(event_type: str, version: int, data: bytes) -> AnyEvent:
    """The event of this type whose JSON form ``data`` is, as version ``version`` wrote it.

    Raises:
        NewerVersionError: this build does not know the version.
        ValueError: it is no event of that type, or there is no such version.
    """
    if version > MAX_VERSION:
        raise ValueError(f"{version} is no version")
    if version > SCHEMA_VERSION:
        raise NewerVersionError(f"{event_type} has version {version}, this build reads up to {SCHEMA_VERSION}")
    if version == SCHEMA_VERSION:
        validator = _VALIDATORS.get(event_type)
        if validator is None:
            raise ValueError(f"{event_type!r} is no type of event")
        return cast("AnyEvent", validator.validate_json(data))
    fields = cast("dict[str, Any]", from_json(data, allow_inf_nan=False))
    for older in range(version, SCHEMA_VERSION):
        if older not in UPCASTERS:
            raise ValueError(f"there is no version {version}")
        fields = UPCASTERS[older](event_type, fields)
    return any_event.validate_python({**fields, "type": event_type})
