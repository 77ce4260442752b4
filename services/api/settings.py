"""Settings of the api."""

from typing import Annotated

from pydantic import Field

from core.log.archive.place import ArchiveSettings
from core.runtime.settings import HttpSettings, MetricsPort


class ApiSettings(HttpSettings, ArchiveSettings):
    """What only api processes need."""

    metrics_port: MetricsPort = 9402
    host: Annotated[str, Field(description="Address the HTTP server listens on.")] = "127.0.0.1"
    port: Annotated[int, Field(description="Port of the HTTP server.", ge=0, le=65535)] = 8000
    reconnect_interval: Annotated[
        int, Field(description="Milliseconds a viewer waits before it reconnects (`retry:`).", ge=100, le=600_000)
    ] = 3000
    max_reconnect_attempts: Annotated[
        int, Field(description="How often a viewer tries to reconnect, as `connected` tells it.", ge=0, le=1000)
    ] = 5
    heartbeat_interval: Annotated[
        int, Field(description="Seconds between two comments on a quiet stream.", ge=1, le=300)
    ] = 15
    stream_lifetime: Annotated[
        int,
        Field(
            description="Seconds after which a viewer is told to come back, at its next heartbeat; up to a fifth less,"
            " so that those who came together do not come back together.",
            ge=1,
            le=604_800,
        ),
    ] = 14_400
    stream_compression: Annotated[
        bool, Field(description="Streams are sent as gzip to who accepts it; each event is compressed once for all.")
    ] = True
    stream_max_connections: Annotated[
        int,
        Field(
            description="Streams, and requests that wait for an event, this process serves at a time; beyond that 503."
            " Fewer where the process may not open as many files.",
            ge=1,
        ),
    ] = 20_000
    drain_seconds: Annotated[
        float,
        Field(
            description="Seconds within which a process that is told to stop sends its viewers away, one by one."
            " `./run up` takes 1 where this is not set, and has stopped everything within 4.5 s whatever it says.",
            ge=0,
            le=600,
        ),
    ] = 10
    api_workers: Annotated[
        int,
        Field(
            description="Processes of the api behind its one port, with one /metrics for all. Each serves"
            " STREAM_MAX_CONNECTIONS and takes a core at most. `./run up` has one, whatever this says.",
            ge=1,
            le=64,
        ),
    ] = 1
