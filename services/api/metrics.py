"""What is measured of delivering."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

ACTIVE_STREAMS: Final = Gauge("pipai_active_streams", "Open streams.", multiprocess_mode="livesum")
WATCHED_TOPICS: Final = Gauge(
    "pipai_watched_topics", "Topics that open streams watch, of each stream.", ["kind"], multiprocess_mode="livesum"
)
WAITING: Final = Gauge(
    "pipai_waiting_requests", "Requests that wait for an event without a stream.", multiprocess_mode="livesum"
)
DELIVERED: Final = Counter("pipai_delivered_events_total", "Events handed to viewers.", ["kind"])
REFUSED: Final = Counter("pipai_refused_streams_total", "Streams that were not let in.", ["reason"])
RESETS: Final = Counter("pipai_resets_total", "Times a viewer was told that positions jump.", ["reason"])
RESYNCS: Final = Counter("pipai_hub_resyncs_total", "Times the change feed could not be followed without a hole.")
CHANGES: Final = Counter("pipai_hub_changes_total", "Change feed entries read.")
DELIVERY_SECONDS: Final = Histogram(
    "pipai_delivery_seconds",
    "From an event's append to its hand-over to this process's viewers.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
REDIS_UP: Final = Gauge("pipai_redis_up", "1 while the change feed can be read, else 0.", multiprocess_mode="livemin")
TEMPORAL_UP: Final = Gauge(
    "pipai_temporal_up", "1 when Temporal answered last time it was asked, else 0.", multiprocess_mode="livemin"
)
