"""The history as it is asked for: events of all times, wherever they are kept."""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from pipai_contracts.frozen import Frozen
from pipai_contracts.times import Timestamp

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
    parked: bool = False


class HistoryPage(Frozen):
    """Events in the order of the log; ``next`` goes on behind them, and is null when there are no more."""

    model_config = ConfigDict(extra="forbid")

    events: list[HistoryEvent]
    next: str | None


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
