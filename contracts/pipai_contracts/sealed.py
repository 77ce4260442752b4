"""An event ready to be appended: checked, and written as JSON once."""

from typing import NamedTuple

from pipai_contracts.envelope import Envelope, encode_data
from pipai_contracts.events import EventType
from pipai_contracts.ids import Topic


class Sealed(NamedTuple):
    """What append stores of an event. ``data`` is its JSON on one line, at most `MAX_EVENT_BYTES`.

    ``made_id``: the event id was made here, so no producer will repeat it later.
    """

    event_id: str
    type: EventType
    v: int
    topic: Topic
    user_id: str | None
    run_id: str | None
    time: str
    data: bytes
    made_id: bool = False
    correlation_id: str | None = None
    causation_id: str | None = None


def seal(envelope: Envelope) -> Sealed:
    """The envelope, ready to be appended.

    Raises:
        EventTooLargeError: its event is over 256 KiB.
    """
    return Sealed(
        envelope.event_id,
        envelope.event.type,
        envelope.v,
        envelope.topic,
        envelope.user_id,
        envelope.run_id,
        envelope.time,
        encode_data(envelope.event),
        correlation_id=envelope.correlation_id,
        causation_id=envelope.causation_id,
    )
