"""Running an app as a process of its own."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from core.runtime.exits import UNFIT
from core.runtime.files import allow_many_files
from core.runtime.http import HttpService, create_app
from core.runtime.loaded import keep_loaded
from core.runtime.logs import configure_logging, get_logger
from core.runtime.metrics import PortBusyError, metrics_server
from core.runtime.server import DrainingServer, http_config
from core.runtime.settings import HttpSettings


def serve(
    service: HttpService,
    settings: HttpSettings,
    *,
    host: str,
    port: int,
    metrics: int,
    unfit: Callable[[], Coroutine[Any, Any, str | None]],
) -> int:
    """Serve until told to stop; returns the exit code, 1 when ``metrics``, the port of ``/metrics``, is taken.

    ``unfit`` says why the service cannot work until somebody changes a setting: it returns `UNFIT` then, and does
    not start.
    When ``port`` itself is taken uvicorn says so and exits.
    """
    configure_logging(service.name, settings)
    reason = asyncio.run(unfit())
    if reason is not None:
        get_logger().error("service stops", service=service.name, reason=reason)
        return UNFIT
    app = create_app(service, title=f"PIP AI Stream: {service.name}", cors_origins=settings.allowed_origins())
    keep_loaded()
    allow_many_files()
    try:
        with metrics_server(settings.metrics_host, metrics):
            DrainingServer(http_config(app, host, port), service.drain).run()
    except PortBusyError as error:
        get_logger().error("service stops", service=service.name, reason=str(error))
        return 1
    return 0
