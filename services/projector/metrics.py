"""What is measured of projecting."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

PROJECTED: Final = Counter("pipai_projected_events_total", "Events that are in every view they belong to.", ["source"])
PARKED: Final = Counter("pipai_parked_events_total", "Events parked as dead letters.", ["source"])
PUSHED_OUT: Final = Counter(
    "pipai_pushed_out_letters_total", "Dead letters that were dropped because too many came after them.", ["source"]
)
LOST: Final = Counter(
    "pipai_lost_events_total", "Events that were gone from the log before a projector saw them.", ["source"]
)
REGRESSED: Final = Counter(
    "pipai_log_regressions_total", "Times the log, or the views of it, went back to an earlier state.", ["source"]
)
VIEWS_REGRESSED: Final = Counter(
    "pipai_view_regressions_total",
    "Times views went back with a new master (lost), or may have and nobody can tell (unknown).",
    ["reason"],
)
MOVED: Final = Counter("pipai_moved_views_total", "Views another projector wrote first, folded again.")
RETURNED: Final = Counter(
    "pipai_returned_topics_total",
    "Topics that were published to again after their views had expired; what came before was folded in.",
)
UNCHECKED: Final = Counter(
    "pipai_unchecked_topics_total",
    "Topics that began and were not looked for in the archive, because too many began: verify tells which returned.",
)
CAUGHT_UP: Final = Counter(
    "pipai_caught_up_events_total", "Events read from the log because the group did not deliver them.", ["source"]
)
WAITING: Final = Gauge(
    "pipai_waiting_for_upgrade", "1 while a source waits because its next event is of a newer build.", ["source"]
)
BATCH_SECONDS: Final = Histogram(
    "pipai_projection_seconds",
    "From a batch's arrival to its checkpoint.",
    ["source"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
LAG_SECONDS: Final = Gauge(
    "pipai_projection_lag_seconds",
    "Age of the oldest event not in its views yet, else 0.",
    ["source"],
)
HELD_ENTRIES: Final = Gauge(
    "pipai_held_entries",
    "Entries over the length of a source stream that stay because a consumer group of others needs them.",
    ["source"],
)
TAKEN_ENTRIES: Final = Counter(
    "pipai_taken_entries_total",
    "Entries trimmed though a living consumer group of others still needed them.",
    ["source"],
)
LEFT_BEHIND: Final = Counter(
    "pipai_groups_left_behind_total",
    "Consumer groups of others that were silent for GROUP_IDLE_LIMIT when entries they had not had were trimmed.",
    ["source"],
)
PARTITIONS: Final = Gauge("pipai_partitions", "Partitions the deployment has, which its projectors share.")
HELD: Final = Gauge("pipai_held_partitions", "Partitions this projector follows; 0 while it stands by.")
LEASE_CHANGES: Final = Counter(
    "pipai_lease_changes_total", "Partitions gained, lost to another or handed over.", ["kind"]
)
