"""Answers of the health endpoints."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipai_contracts.times import Timestamp

ServiceStatus = Literal["healthy", "unhealthy", "not_configured"]


class StreamHealth(BaseModel):
    """Answer of ``GET /stream/health``: 200 unless ``unhealthy``, then 503.

    ``services`` always names redis and temporal. ``log`` (events can be appended) and ``projector`` (views follow the
    log) are named while they are unhealthy, and ``reasons`` then says why; else these are left out.
    """

    model_config = ConfigDict(frozen=True)

    status: Literal["healthy", "degraded", "unhealthy"]
    services: dict[str, ServiceStatus]
    active_streams: int
    timestamp: Timestamp
    reasons: list[str] = []
