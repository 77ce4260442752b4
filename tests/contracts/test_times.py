"""Every moment has one form: UTC, milliseconds, Z."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pipai_contracts.record import StreamId
from pipai_contracts.times import Timestamp, format_time, normalize_time

timestamp = TypeAdapter[str](Timestamp)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2025-01-01T00:00:00Z", "2025-01-01T00:00:00.000Z"),
        ("2025-01-01T02:30:00+02:30", "2025-01-01T00:00:00.000Z"),
        ("2024-12-31T23:00:00.5-01:00", "2025-01-01T00:00:00.500Z"),
        ("2025-01-01t00:00:00z", "2025-01-01T00:00:00.000Z"),
        ("2025-01-01T00:00:00.123999Z", "2025-01-01T00:00:00.123Z"),
        ("2025-01-01T00:00:00.123456789Z", "2025-01-01T00:00:00.123Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_time_is_brought_to_the_one_form(given: str, kept: str) -> None:
    assert timestamp.validate_python(given) == kept
    assert timestamp.validate_python(kept) == kept


@pytest.mark.parametrize(
    "value",
    [
        "2025-01-01T00:00:00",
        "2025-01-01",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "10000-01-01T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "2025-01-01T00:00:00+00:00:30",
        "now",
        "",
        1735689600,
        None,
    ],
)
def test_what_is_no_moment_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        timestamp.validate_python(value)


def _has_a_written_form(moment: datetime) -> bool:
    """Whether RFC 3339 can tell the offset: local times of long ago had seconds in theirs."""
    return (moment.utcoffset() or timedelta()) % timedelta(minutes=1) == timedelta()


moments = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 - the zone is drawn
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001 - the zone is drawn
    timezones=st.timezones(),
).filter(_has_a_written_form)


@given(moments, moments)
def test_times_compare_as_text_in_the_order_they_happened(one: datetime, other: datetime) -> None:
    texts = [normalize_time(moment.isoformat()) for moment in sorted((one, other))]

    assert texts == sorted(texts)
    assert all(len(text) == len("2025-01-01T00:00:00.000Z") for text in texts)


def test_a_stream_id_tells_when_it_was_given() -> None:
    assert StreamId.parse(b"1735689600123-4").time == format_time(datetime(2025, 1, 1, 0, 0, 0, 123000, tzinfo=UTC))
