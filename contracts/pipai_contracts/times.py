"""One form for every moment: UTC, RFC 3339, milliseconds, ``Z``.

The fixed width makes times compare as text in the order they happened.
"""

import re
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema


def format_time(moment: datetime) -> str:
    """``2025-01-01T00:00:00.000Z`` for a moment that knows its offset."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_millis(milliseconds: int) -> str:
    """The time of a Redis stream id's millisecond part."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_format_second(seconds)}.{rest:03}Z"


@lru_cache(1024)
def _format_second(seconds: int) -> str:
    """The time without its milliseconds, kept: the log has many events of each second."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


_THE_FORM: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


def normalize_time(value: object) -> str:
    """Bring any RFC 3339 time to the one form; fractions finer than a millisecond are cut.

    Raises:
        ValueError: not a time, without a UTC offset, or outside the years 1-9999.
    """
    if isinstance(value, str) and _THE_FORM.fullmatch(value):  # most are: everything that comes out of the log
        with suppress(ValueError):
            datetime.fromisoformat(value)
            return value
    # Python would take all of ISO 8601: weeks, days without a time, offsets with seconds.
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        with suppress(ValueError, OverflowError):
            return format_time(datetime.fromisoformat(value.upper()))
    raise ValueError("must be an RFC 3339 time with an offset, like 2025-01-01T00:00:00Z")


def millis_of(time: str) -> int:
    """The milliseconds since 1970 of any RFC 3339 time; fractions finer than that are cut.

    Raises:
        ValueError: as `normalize_time`.
    """
    return round(datetime.fromisoformat(normalize_time(time)).timestamp() * 1000)


Timestamp = Annotated[
    str,
    BeforeValidator(normalize_time),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
