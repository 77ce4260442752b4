"""What a client of the streams may know before it connects."""

from typing import Any, Final, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter

from pipai_contracts import events, frames
from pipai_contracts.events import EventType
from pipai_contracts.ids import Kind

EVENTS_OF: Final[dict[Kind, tuple[EventType, ...]]] = {
    "workflow": ("workflow_progress", "ai_progress", "temporal_status"),
    "file": ("analysis_progress",),
    "user": ("notification", "workflow_progress", "analysis_progress", "ai_progress", "temporal_status"),
}
"""Which events the stream of a topic has, by its kind."""

_EVENTS: Final[dict[str, type[BaseModel]]] = {
    "workflow_progress": events.WorkflowProgress,
    "analysis_progress": events.AnalysisProgress,
    "ai_progress": events.AiProgress,
    "notification": events.Notification,
    "temporal_status": events.TemporalStatus,
}
_CONTROL: Final[dict[str, Any]] = {
    "connected": frames.Connected | frames.ManyConnected | frames.SystemConnected,
    "joined": frames.Joined,
    "left": frames.Left,
    "reset": frames.Reset,
    "position": frames.Position,
    "batch": frames.Batch,
    "error": frames.StreamError,
    "disconnected": frames.Disconnected,
    "system": frames.SystemStatus,
}
_OF_A_TOPIC: Final = frozenset({"reset", "position", "error"})
"""Those that on a connection of many topics are about one of them."""


class StreamMetadata(BaseModel):
    """Answer of ``GET /stream/metadata``.

    ``events`` and ``control`` map the names of SSE events to the JSON Schema of their data; ``kinds`` says which events
    the stream of a topic has. ``heartbeat`` in seconds, ``reconnect_interval`` in milliseconds.
    """

    model_config = ConfigDict(frozen=True)

    events: dict[str, dict[str, Any]]
    control: dict[str, dict[str, Any]]
    kinds: dict[Kind, tuple[EventType, ...]] = EVENTS_OF
    heartbeat: int
    reconnect_interval: int
    max_reconnect_attempts: int


def stream_metadata(*, heartbeat: int, reconnect_interval: int, max_reconnect_attempts: int) -> StreamMetadata:
    """The metadata of a deployment with these settings."""
    told = {name: _wire_schema(model) for name, model in _EVENTS.items()}
    answer = _named(frames.TemporalAnswer.model_json_schema(mode="serialization"))
    told["temporal_status"] = _either(told["temporal_status"], answer)
    said = {name: TypeAdapter(data).json_schema(mode="serialization") for name, data in _CONTROL.items()}
    return StreamMetadata(
        events=told,
        control={name: _named(schema) if name in _OF_A_TOPIC else schema for name, schema in said.items()},
        heartbeat=heartbeat,
        reconnect_interval=reconnect_interval,
        max_reconnect_attempts=max_reconnect_attempts,
    )


def _wire_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of an event's data as `frames.wire_data` sends it: the type is the event's name."""
    schema = model.model_json_schema(mode="serialization")
    properties = cast("dict[str, Any]", schema["properties"])
    properties.pop("type")
    properties |= {
        "timestamp": {"type": "string", "format": "date-time"},
        "run_id": {"type": "string"},
        "late": {"type": "boolean", "description": "Its run had ended before."},
        "replay": {"type": "boolean", "description": "It is the past, shown once more."},
    }
    required = [name for name in cast("list[str]", schema.get("required", [])) if name != "type"]
    return _named({**schema, "required": [*required, "timestamp"]})


def _named(schema: dict[str, Any]) -> dict[str, Any]:
    """The same, with the topic it is about."""
    topic = {"type": "string", "description": "Only on a connection of many topics: which one it is about."}
    return {**schema, "properties": {**schema["properties"], "topic": topic}}


def _either(*schemas: dict[str, Any]) -> dict[str, Any]:
    """Data of any of these forms."""
    definitions = {name: shape for schema in schemas for name, shape in schema.get("$defs", {}).items()}
    shapes = [{key: value for key, value in schema.items() if key != "$defs"} for schema in schemas]
    return {"anyOf": shapes, "$defs": definitions}
