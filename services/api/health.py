"""``GET /stream/health``: how the streaming service is, within a second whatever is broken."""

import asyncio
from collections.abc import Mapping
from typing import Final, Literal

from fastapi import APIRouter, Response
from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.runtime.clock import now
from core.runtime.redis import ask_masters
from core.runtime.temporal import LazyTemporal, temporal_reachable
from pipai_contracts.health import ServiceStatus, StreamHealth
from services.api import metrics
from services.api.faults import FaultFinder, Faults
from services.api.hub import Hub
from services.api.presence import Presence

_ANSWER_WITHIN: Final = 0.7
_MAX_REASONS: Final = 10


class HealthCheck:
    """Asks Redis and Temporal how they are, both at once and not for long."""

    def __init__(self, redis: Redis, temporal: LazyTemporal, hub: Hub, presence: Presence, faults: FaultFinder) -> None:
        self._redis = redis
        self._faults = faults
        self._temporal = temporal
        self._hub = hub
        self._presence = presence

    async def check(self) -> StreamHealth:
        """The health of the service and of what it stands on."""
        redis, temporal, streams, faults = await asyncio.gather(
            self._check_redis(), self._check_temporal(), self._count_streams(), self._find_faults()
        )
        services: dict[str, ServiceStatus] = {"redis": redis, "temporal": temporal}
        if faults.damaged or faults.refusing:
            services["log"] = "unhealthy"
        if faults.late:
            services["projector"] = "unhealthy"
        health = StreamHealth(
            status=_overall(services, broken=redis != "healthy" or bool(faults.damaged)),
            services=services,
            active_streams=streams,
            timestamp=now(),
        )
        reasons = [*faults.damaged, *faults.refusing, *faults.late][:_MAX_REASONS]
        return health.model_copy(update={"reasons": reasons}) if reasons else health

    async def _find_faults(self) -> Faults:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                return await self._faults.find()
        except (RedisError, TimeoutError, OSError):
            return Faults()

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
            return len(self._hub.viewers)


def _overall(services: Mapping[str, ServiceStatus], *, broken: bool) -> Literal["healthy", "degraded", "unhealthy"]:
    if broken:
        return "unhealthy"
    return "healthy" if set(services.values()) == {"healthy"} else "degraded"


def health_routes(check: HealthCheck) -> APIRouter:
    """The health endpoint."""
    router = APIRouter(tags=["health"])

    @router.get("/stream/health", responses={503: {"model": StreamHealth}}, response_model_exclude_unset=True)
    async def stream_health(response: Response) -> StreamHealth:
        """200 when healthy or degraded, 503 when unhealthy.

        Degraded: Temporal is away or not configured, Redis takes no events or may throw some away, or views do not
        follow the log. Unhealthy: Redis is away, or a key of the log holds something else.
        """
        health = await check.check()
        response.status_code = 503 if health.status == "unhealthy" else 200
        response.headers["Cache-Control"] = "no-store"
        return health

    _ = stream_health
    return router
