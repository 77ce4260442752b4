"""Events as tests tell them, in one line each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.log.keys import Keys
from pipai_contracts.envelope import Envelope, encode_data
from pipai_contracts.events import AiProgress, AnalysisProgress, AnyEvent, Notification, Status, WorkflowProgress
from pipai_contracts.events import TemporalStatus as TemporalStatusEvent
from pipai_contracts.record import Record, StreamId


@dataclass(frozen=True)
class Told:
    """An event and who told it; ``second``: when, if not in the order of telling."""

    event: AnyEvent
    run: str | None = None
    user: str | None = None
    second: int | None = None

    def envelope(self, event_id: str, second: int = 0) -> Envelope:
        """The event as a producer sends it."""
        moment = second if self.second is None else self.second
        return Envelope(event_id=event_id, user_id=self.user, run_id=self.run, time=at(moment), event=self.event)

    def by(self, user: str) -> "Told":
        """The same event, of a topic that ``user`` owns."""
        return replace(self, user=user)


def at(second: int) -> str:
    """The time of a second of the tests' day."""
    return f"2025-01-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.000Z"


def step(
    progress: float,
    name: str = "read",
    *,
    of: str = "w",
    run: str | None = None,
    second: int | None = None,
    **fields: Any,
) -> Told:
    """A workflow moved."""
    event = WorkflowProgress(workflow_id=of, step=name, progress=progress, **fields)
    return Told(event, run, second=second)


def analysis(progress: float, name: str = "read", *, of: str = "f", run: str | None = None, **fields: Any) -> Told:
    """The analysis of a file moved."""
    return Told(AnalysisProgress(file_id=of, step=name, progress=progress, **fields), run)


def ai(
    delta: str | None = None, name: str = "summarise", *, of: str = "w", run: str | None = None, **more: Any
) -> Told:
    """An AI step moved."""
    return Told(AiProgress(workflow_id=of, step=name, delta=delta, **more), run)


def temporal(status: Status, *, of: str = "w", run: str | None = None, message: str | None = None) -> Told:
    """Temporal said how the workflow is."""
    return Told(TemporalStatusEvent(workflow_id=of, status=status, message=message), run)


def notice(title: str, *, of: str = "ada", message: str | None = None, **fields: Any) -> Told:
    """A user was told something; the message is the title unless it is given."""
    told = title if message is None else message
    return Told(Notification(user_id=of, title=title, message=told, **fields))


def records(told: Sequence[Told], *, start: int = 1) -> list[Record]:
    """The events as they stand in the log: one a second, in the order of telling."""
    keys = Keys()
    return [_record(keys, one, number) for number, one in enumerate(told, start=start)]


def _record(keys: Keys, told: Told, number: int) -> Record:
    envelope = told.envelope(f"e{number}", number)
    source = keys.source_of(told.event.type, envelope.topic).name
    return Record.of(source, StreamId(number, 0), number, envelope, encode_data(told.event))
