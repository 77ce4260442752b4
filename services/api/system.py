"""``GET /stream/system``: live health and figures as a stream, made once for all who watch."""

import asyncio
from contextlib import suppress
from typing import Final

from fastapi import APIRouter, Response
from prometheus_client import REGISTRY

from core.runtime.clock import now
from pipai_contracts.frames import SystemConnected, SystemStatus, encode_data, encode_frame
from pipai_contracts.ids import KINDS
from services.api.asked import AcceptEncoding
from services.api.audience import Audience, DrainingError
from services.api.compression import accepts_gzip
from services.api.health import HealthCheck
from services.api.hub import Hub
from services.api.outlets import Outlet
from services.api.pieces import Piece
from services.api.settings import ApiSettings
from services.api.stream_response import StreamResponse, Unanswered
from services.api.streams import STREAM
from services.api.viewer import Viewer

_EVERY: Final = 2.0


class SystemFeed:
    """Tells its viewers how the deployment is, as long as there are any."""

    def __init__(self, check: HealthCheck, hub: Hub, audience: Audience, settings: ApiSettings) -> None:
        self._check = check
        self._hub = hub
        self._audience = audience
        self._settings = settings
        self._viewers: set[Viewer] = set()
        self._telling: asyncio.Task[None] | None = None
        self._came = asyncio.Event()

    async def serve(self, outlet: Outlet) -> None:
        """Serve a new connection; returns when it is live."""
        viewer = self._audience.admit(outlet, self._viewers.discard)
        connected = SystemConnected(
            timestamp=now(),
            heartbeat=self._settings.heartbeat_interval,
            retry=self._settings.reconnect_interval,
            attempts=self._settings.max_reconnect_attempts,
        )
        viewer.write(encode_frame("connected", encode_data(connected), retry=self._settings.reconnect_interval))
        self._viewers.add(viewer)
        self._came.set()  # who comes is told at once, and the others a little early
        if self._telling is None or self._telling.done():
            self._telling = self._hub.spawn(self._tell())

    async def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        counted, since = _counted(), loop.time()
        rates = (0.0, 0.0)
        while self._viewers:
            health = await self._check.check()
            self._came.clear()
            if (passed := loop.time() - since) >= _EVERY / 2:  # some milliseconds would tell of one busy moment
                before, counted, since = counted, _counted(), loop.time()
                rates = ((counted[0] - before[0]) / passed, (counted[1] - before[1]) / passed)
            status = SystemStatus(
                timestamp=now(),
                health=health,
                streams=len(self._hub.viewers),
                events_per_second=round(rates[0], 1),
                deliveries_per_second=round(rates[1], 1),
                delivery_seconds=self._hub.delivery_seconds,
            )
            piece = Piece(encode_frame("system", encode_data(status)))
            for viewer in list(self._viewers):
                if not viewer.outlet.paused:
                    viewer.outlet.write(piece)
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY):
                    await self._came.wait()


def _counted() -> tuple[float, float]:
    """Changes read and events delivered by this process so far."""
    delivered = [REGISTRY.get_sample_value("pipai_delivered_events_total", {"kind": kind}) for kind in KINDS]
    return REGISTRY.get_sample_value("pipai_hub_changes_total") or 0.0, sum(count or 0.0 for count in delivered)


def system_routes(feed: SystemFeed, audience: Audience, settings: ApiSettings) -> APIRouter:
    """The stream of the system's health."""
    router = APIRouter(tags=["health"])

    @router.get("/stream/system", response_class=Response, responses={200: STREAM[200]})
    async def stream_system(accept_encoding: AcceptEncoding = None) -> Response:
        """What ``GET /stream/health`` says and this process's figures, at once and then every two seconds."""
        try:
            audience.check_room()
        except DrainingError as error:
            return Unanswered(error)
        gzip = settings.stream_compression and accepts_gzip(accept_encoding)
        return StreamResponse(feed.serve, audience.shutdown, gzip=gzip)

    _ = stream_system
    return router
