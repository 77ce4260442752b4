"""The latest progress of a run as an ordinary event, for viewers who join and know nothing of views.

The specification's own clients look at ``progress`` and ``result`` of progress events only: of a workflow that has
ended they would otherwise never hear.
"""

from pydantic_core import to_json

from core.runtime.clock import now
from pipai_contracts.events import EventType
from pipai_contracts.frames import wire_data
from pipai_contracts.ids import Topic
from pipai_contracts.views import RunView


def latest_name(topic: Topic) -> EventType:
    """What the latest progress of a run of this topic is called."""
    return "workflow_progress" if topic.kind == "workflow" else "analysis_progress"


def latest_progress(topic: Topic, view: RunView) -> bytes | None:
    """The event's data; None before any progress. It has no id: the snapshot's cursor covers it."""
    if view.step is None and view.status in {"pending", "running"}:
        return None
    error = view.error
    if error is None and view.status in {"failed", "terminated", "timed_out"}:
        error = view.message or view.status
    fields = {
        f"{topic.kind}_id": topic.id,
        "step": view.step or view.status,
        "progress": view.progress,
        "message": view.message,
        "error": error,
        "canceled": True if view.status == "canceled" else None,
        "result": view.result,
        "metadata": view.metadata,
    }
    # Not an event of the contracts: a view joins what several events brought, which may be more than one may have.
    data = to_json({name: value for name, value in fields.items() if value is not None})
    return wire_data(data, timestamp=view.updated or now(), run_id=view.run_id)
