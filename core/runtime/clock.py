"""What time it is, in the form of the contracts."""

from datetime import UTC, datetime

from pipai_contracts.times import format_time


def now() -> str:
    """This moment, as RFC 3339 UTC."""
    return format_time(datetime.now(UTC))
