"""Settings of the projector."""

from typing import Annotated

from pydantic import Field

from core.log.archive.place import ArchiveSettings
from core.runtime.settings import MetricsPort


class ProjectorSettings(ArchiveSettings):
    """What only projectors need."""

    metrics_port: MetricsPort = 9410
    projector_batch: Annotated[
        int, Field(description="Events of a source stream a projector takes at once.", ge=1, le=5000)
    ] = 2000
    lease_seconds: Annotated[
        float,
        Field(
            description="Seconds after which the partitions of a projector that gives no sign are taken over.",
            ge=0.5,
            le=60,
        ),
    ] = 5
    group_idle_limit: Annotated[
        int,
        Field(
            description="Seconds a consumer group that is not ours may be silent; then streams are trimmed without it.",
            ge=1,
        ),
    ] = 3600
