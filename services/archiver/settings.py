"""Settings of the archiver."""

from typing import Annotated

from pydantic import Field

from core.log.archive.place import ArchiveSettings
from core.runtime.settings import MetricsPort


class ArchiverSettings(ArchiveSettings):
    """What only archivers need."""

    metrics_port: MetricsPort = 9404
    archive_spool_max: Annotated[
        int,
        Field(
            description="Bytes of segments that may wait on the archiver's disk while the archive is away; then "
            "streams grow, and at STREAM_BACKLOG_LIMIT publishing is refused.",
            ge=1024 * 1024,
        ),
    ] = 1024 * 1024 * 1024
    archive_retention: Annotated[
        int,
        Field(
            description="Days after which archived events are deleted, a day (UTC) at a time; 0 keeps them for ever.",
            ge=0,
        ),
    ] = 0
    archive_seconds: Annotated[
        float, Field(description="Seconds after which events are archived though they are few.", ge=0.1, le=3600)
    ] = 30
