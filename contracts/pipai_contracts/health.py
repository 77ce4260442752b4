"""Answers of the health endpoints."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipai_contracts.times import Timestamp

ServiceStatus = Literal["healthy", "unhealthy", "not_configured"]


class StreamHealth(BaseModel):
    """Answer of ``GET /stream/health``: 200 unless ``unhealthy``, then 503."""

    model_config = ConfigDict(frozen=True)

    status: Literal["healthy", "degraded", "unhealthy"]
    services: dict[str, ServiceStatus]
    active_streams: int
    timestamp: Timestamp
