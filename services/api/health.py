"""``GET /stream/health``: how the streaming service is, within a second whatever is broken."""

import asyncio
from typing import Final, Literal

from fastapi import APIRouter, Response
from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.runtime.clock import now
from core.runtime.redis import ask_masters
from core.runtime.temporal import LazyTemporal, temporal_reachable
from pipai_contracts.health import ServiceStatus, StreamHealth
from services.api import metrics
from services.api.hub import Hub
from services.api.presence import Presence

_ANSWER_WITHIN: Final = 0.7


class HealthCheck:
    """Asks Redis and Temporal how they are, both at once and not for long."""

    def __init__(self, redis: Redis, temporal: LazyTemporal, hub: Hub, presence: Presence) -> None:
        self._redis = redis
        self._temporal = temporal
        self._hub = hub
        self._presence = presence

    async def check(self) -> StreamHealth:
        """The health of the service and of what it stands on."""
        redis, temporal, streams = await asyncio.gather(
            self._check_redis(), self._check_temporal(), self._count_streams()
        )
        return StreamHealth(
            status=_overall(redis, temporal),
            services={"redis": redis, "temporal": temporal},
            active_streams=streams,
            timestamp=now(),
        )

    async def _check_redis(self) -> ServiceStatus:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                await ask_masters(self._redis, "PING")
        except (RedisError, TimeoutError, OSError):
            return "unhealthy"
        return "healthy"

    async def _check_temporal(self) -> ServiceStatus:
        client = await self._temporal.client()
        if client is None:
            return "not_configured"
        reachable = await temporal_reachable(client, _ANSWER_WITHIN)
        metrics.TEMPORAL_UP.set(reachable)
        return "healthy" if reachable else "unhealthy"

    async def _count_streams(self) -> int:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                return await self._presence.active_streams()
        except (RedisError, TimeoutError, OSError, ValueError):
            return self._hub.active_streams


def _overall(redis: ServiceStatus, temporal: ServiceStatus) -> Literal["healthy", "degraded", "unhealthy"]:
    if redis != "healthy":
        return "unhealthy"
    return "healthy" if temporal == "healthy" else "degraded"


def health_routes(check: HealthCheck) -> APIRouter:
    """The health endpoint."""
    router = APIRouter(tags=["health"])

    @router.get("/stream/health", responses={503: {"model": StreamHealth}})
    async def stream_health(response: Response) -> StreamHealth:
        """200 when healthy or degraded (Temporal is away or not configured), 503 when Redis is away."""
        health = await check.check()
        response.status_code = 503 if health.status == "unhealthy" else 200
        response.headers["Cache-Control"] = "no-store"
        return health

    _ = stream_health
    return router
