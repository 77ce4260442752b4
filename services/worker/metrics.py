"""What is measured of analysing documents."""

from typing import Final

from prometheus_client import Counter, Histogram

DOCUMENTS: Final = Counter("pipai_documents_total", "Documents whose analysis ended.", ["outcome"])
STEP_SECONDS: Final = Histogram(
    "pipai_document_step_seconds",
    "How long an attempt at a step took.",
    ["step"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
EVENTS: Final = Counter("pipai_worker_events_total", "Events the worker appended, or could not.", ["outcome"])
