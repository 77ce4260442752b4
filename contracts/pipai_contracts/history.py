"""The history as it is asked for: events of all times, wherever they are kept."""

from typing import Any

from pydantic import ConfigDict

from pipai_contracts.frozen import Frozen


class HistoryEvent(Frozen):
    """An event as it stands in the log.

    ``stream`` names the source stream; ``stream_id`` says where in it, ``offset`` where in its partition. ``time`` is
    when it happened, as the producer told. ``data`` has the fields of the event; it is null, like ``event_id`` and
    ``time``, for an entry that another hand added to the stream. ``parked``: it is or was among the dead letters, so it
    is in no view.
    """

    model_config = ConfigDict(extra="forbid")

    event_id: str | None
    stream: str
    stream_id: str
    topic: str | None
    offset: int
    time: str | None
    event: str | None
    data: dict[str, Any] | None
    user_id: str | None = None
    run_id: str | None = None
    parked: bool = False


class HistoryPage(Frozen):
    """Events in the order of the log; ``next`` goes on behind them, and is null when there are no more."""

    model_config = ConfigDict(extra="forbid")

    events: list[HistoryEvent]
    next: str | None
