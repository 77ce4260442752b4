"""Api and ingest in one app on one port, for one machine."""

from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager

from fastapi import APIRouter, FastAPI

from core.runtime.files import allow_many_files
from core.runtime.http import HttpService, create_app
from core.runtime.loaded import keep_loaded
from core.runtime.logs import configure_logging, get_logger
from core.runtime.metrics import PortBusyError, metrics_server
from core.runtime.server import DrainingServer, http_config
from services.api.main import build as build_api
from services.api.settings import ApiSettings
from services.ingest.main import build as build_ingest
from services.ingest.settings import IngestSettings


def create_web() -> FastAPI:
    """The app of ``uvicorn main:app``, set up from the environment."""
    api = ApiSettings()
    return _app(api, build_api(api))


def _app(settings: ApiSettings, api: HttpService) -> FastAPI:
    configure_logging("web", settings)
    services = (_metrics(settings), build_ingest(IngestSettings()), api)
    return create_app(*services, title="PIP AI Stream", cors_origins=settings.allowed_origins())


def main() -> None:
    """Serve the same app with direct writes and a drain, as ``./run up`` does."""
    settings = ApiSettings()
    api = build_api(settings)
    config = http_config(_app(settings, api), settings.host, settings.port)
    keep_loaded()
    allow_many_files()
    DrainingServer(config, api.drain).run()


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


if __name__ == "__main__":
    main()
