"""One form for every moment: UTC, RFC 3339, milliseconds, ``Z``.

The fixed width makes times compare as text in the order they happened.
"""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema


def format_time(moment: datetime) -> str:
    """``2025-01-01T00:00:00.000Z`` for a moment that knows its offset."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_millis(milliseconds: int) -> str:
    """The time of a Redis stream id's millisecond part."""
    return format_time(datetime.fromtimestamp(milliseconds / 1000, UTC))


def normalize_time(value: object) -> str:
    """Bring any RFC 3339 time to the one form; fractions finer than a millisecond are cut.

    Raises:
        ValueError: not a time, without a UTC offset, or outside the years 1-9999.
    """
    if not isinstance(value, str):
        raise ValueError("must be an RFC 3339 time as a string")  # noqa: TRY004 - pydantic reports ValueError
    try:
        moment = datetime.fromisoformat(value)
        text = format_time(moment)
    except (ValueError, OverflowError):
        moment, text = None, ""
    if moment is None or moment.tzinfo is None:
        raise ValueError("must be an RFC 3339 time with an offset, like 2025-01-01T00:00:00Z")
    return text


Timestamp = Annotated[
    str,
    BeforeValidator(normalize_time),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
