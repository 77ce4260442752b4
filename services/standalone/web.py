"""Api and ingest in one app on one port, for one machine."""

from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager

from fastapi import APIRouter, FastAPI

from core.runtime.http import HttpService, create_app
from core.runtime.logs import configure_logging, get_logger
from core.runtime.metrics import PortBusyError, metrics_server
from services.api.main import build as build_api
from services.api.settings import ApiSettings
from services.ingest.main import build as build_ingest
from services.ingest.settings import IngestSettings


def create_web() -> FastAPI:
    """The app of ``uvicorn main:app``, set up from the environment."""
    api = ApiSettings()
    configure_logging("web", api)
    return create_app(
        _metrics(api),
        build_ingest(IngestSettings()),
        build_api(api),
        title="PIP AI Stream",
        cors_origins=api.allowed_origins(),
    )


def _metrics(settings: ApiSettings) -> HttpService:
    """``/metrics`` on its own port, as a part of the app: uvicorn starts the app, so nothing else could.

    Where the port is taken, as beside a running ``./run up``, the app goes on without.
    """

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(metrics_server(settings.metrics_host, settings.metrics_port))
            except PortBusyError as error:
                get_logger().warning("metrics are not served", reason=str(error))
            yield

    async def ready() -> None:
        return None

    return HttpService("metrics", APIRouter(), lifespan, ready)
