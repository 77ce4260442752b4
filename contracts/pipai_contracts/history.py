"""The history as it is asked for: events of all times, wherever they are kept."""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, JsonValue

from pipai_contracts.frozen import Frozen
from pipai_contracts.ids import Kind
from pipai_contracts.times import Timestamp
from pipai_contracts.views import AnyView

EXPORT_FORMAT: Final = "pipai-history"
EXPORT_VERSION: Final = 1


class HistoryEvent(Frozen):
    """An event as it stands in the log.

    ``stream`` names the source stream; ``stream_id`` says where in it, ``offset`` where in its partition. ``time`` is
    when it happened, as the producer told. ``data`` has the fields of the event in the form that schema version ``v``
    gives them; it is null, like ``event_id``, ``v`` and ``time``, for an entry that another hand added to the stream.
    ``parked``: it is or was among the dead letters, so it is in no view.
    """

    model_config = ConfigDict(extra="forbid")

    event_id: str | None
    stream: str
    stream_id: str
    topic: str | None
    offset: int
    time: str | None
    event: str | None
    v: int | None
    data: dict[str, Any] | None
    user_id: str | None = None
    run_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    parked: bool = False


class HistoryPage(Frozen):
    """Events in the order of the log; ``next`` goes on behind them, and is null when there are no more."""

    model_config = ConfigDict(extra="forbid")

    events: list[HistoryEvent]
    next: str | None


class Moment(Frozen):
    """A moment in a topic's past: after ``pos`` of its events, the newest of which is named by the rest.

    ``time`` is when that event was appended; all but ``pos`` are null before the first event.
    """

    model_config = ConfigDict(extra="forbid")

    pos: int
    event_id: str | None
    stream: str | None
    stream_id: str | None
    event: str | None
    time: str | None


class PastView(Frozen):
    """Answer of ``GET /views/{kind}/{id}?at=``: the view as it was.

    ``cursor`` goes on from there, in a stream or in ``/events``, while the live feed reaches back so far, else null.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    id: str
    at: Moment
    cursor: str | None
    view: AnyView


class ChangedValue(Frozen):
    """A value of the view that is another now, and the event that set it; ``path`` is a JSON pointer (RFC 6901)."""

    model_config = ConfigDict(extra="forbid")

    path: str
    before: JsonValue
    after: JsonValue
    by: Moment


class ViewDiff(Frozen):
    """Answer of ``GET /views/{kind}/{id}/diff``: what ``events`` events changed between two moments."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    kind: Kind
    id: str
    since: Annotated[Moment, Field(alias="from")]
    to: Moment
    events: int
    changes: list[ChangedValue]


class ExportHeader(Frozen):
    """The first line of an exported history; every further one is a `HistoryEvent`.

    The events are those of ``topic`` (of a user also those of all topics it owns) that were appended from ``from`` on
    and before ``to``; null is without an end. ``redacted``: paths whose values are not the original ones.
    """

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)

    format: Literal["pipai-history"] = EXPORT_FORMAT
    version: Literal[1] = EXPORT_VERSION
    topic: str
    since: Annotated[Timestamp | None, Field(alias="from")] = None
    to: Timestamp | None = None
    redacted: tuple[str, ...] = ()
