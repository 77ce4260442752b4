"""What is measured of archiving."""

from typing import Final

from prometheus_client import Counter, Gauge

ENTRIES: Final = Counter("pipai_archived_entries_total", "Stream entries written to segments.", ["source"])
SEGMENTS: Final = Counter("pipai_archive_segments_total", "Segments written.")
WRITTEN_BYTES: Final = Counter("pipai_archive_written_bytes_total", "Bytes of the segments written.")
WAITING: Final = Gauge("pipai_archive_waiting_events", "Events that are in their views and not archived yet.")
SPOOL_BYTES: Final = Gauge(
    "pipai_archive_spool_bytes", "Bytes of segments on the archiver's disk that are not in the store yet."
)
FAILURES: Final = Counter(
    "pipai_archive_failures_total",
    "Attempts that failed, by what was in the way: redis, disk, spool (full), store, compaction, retention, erasing or "
    "archiver.",
    ["at"],
)
COMPACTED: Final = Counter(
    "pipai_archive_compacted_segments_total", "Segments that were brought together with others in larger ones."
)
GIVEN_UP: Final = Counter("pipai_archive_given_up_segments_total", "Segments deleted because of ARCHIVE_RETENTION.")
LOST: Final = Counter(
    "pipai_archive_lost_events_total", "Events that were gone from the log before they were archived.", ["source"]
)
