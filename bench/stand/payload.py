"""The progress event of the delivery bench, the same bytes for every server; about 230 as a message of a stream."""

import re
from typing import Final

MARK: Final = ord("~")
"""Stands once in every event and nowhere else in a stream: counting this byte is counting events."""

SENT: Final = re.compile(rb'"sent":"(\d{20})"')
"""When the event was sent, in nanoseconds of `time.perf_counter_ns`."""

_TOLD: Final = b'"step":"processing","progress":50,"message":"~ Page 12 of 48","metadata":{"sent":"%020d"}'


def topic_id(topic: int) -> str:
    """The workflow that is topic number ``topic``."""
    return f"w{topic}"


def data(topic: int, sent: int) -> bytes:
    """The event's JSON as viewers get it."""
    return b'{"workflow_id":"%b",%b,"timestamp":"2026-01-01T00:00:00.000Z"}' % (topic_id(topic).encode(), _TOLD % sent)


def body(_topic: int, sent: int) -> bytes:
    """What ingest is posted for the same event."""
    return b"{%b}" % (_TOLD % sent)


def token(sent: int) -> bytes:
    """What tells this event from all others in a stream."""
    return b'"sent":"%020d"' % sent
