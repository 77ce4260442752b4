"""What is measured of ingesting."""

from functools import cache
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

EVENTS: Final = Counter(
    "pipai_published_events_total",
    "Events on their way into the log.",
    ["type", "outcome"],  # outcome: appended, duplicate, unavailable
)
REJECTED: Final = Counter(
    "pipai_rejected_requests_total",
    "Requests that were refused.",
    ["reason"],  # the last part of the problem's type
)
REJECTED_EVENTS: Final = Counter(
    "pipai_rejected_events_total",
    "Events of batches that were refused for a fault of their own.",
    ["reason"],
)
APPEND_SECONDS: Final = Histogram(
    "pipai_append_seconds",
    "Time one call took that appends events, of one request or of many.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5),
)
BACKLOG: Final = Gauge("pipai_backlog_events", "Events in no view yet, of the source streams this process appends to.")
UPLOADED_BYTES: Final = Counter("pipai_uploaded_bytes_total", "Bytes of accepted files.")
CLOSED_WORKFLOWS: Final = Counter(
    "pipai_closed_workflows_total", "Closed Temporal workflows the watcher told.", ["status"]
)
DEAD_LETTERS: Final = Gauge("pipai_dead_letters", "Dead letters that are kept.", ["source"])
OLDEST_DEAD_LETTER: Final = Gauge(
    "pipai_dead_letter_oldest_seconds", "Seconds since the oldest dead letter was parked, else 0.", ["source"]
)
REDRIVEN: Final = Counter(
    "pipai_redriven_letters_total", "Dead letters whose events were appended again over HTTP.", ["source"]
)
PURGED: Final = Counter("pipai_purged_letters_total", "Dead letters that were deleted over HTTP.", ["source"])


@cache
def events_counter(event_type: str, outcome: str) -> Counter:
    """The counter of these labels, kept: to look it up costs more than to count."""
    return EVENTS.labels(event_type, outcome)
