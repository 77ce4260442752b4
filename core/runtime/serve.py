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
from core.runtime.worker import Worker
from core.runtime.workers import serve_by_workers


def serve(  # noqa: PLR0913 - a process and its two ports
    service: HttpService,
    settings: HttpSettings,
    *,
    host: str,
    port: int,
    metrics: int,
    unfit: Callable[[], Coroutine[Any, Any, str | None]],
    workers: int = 1,
) -> int:
    """Serve until told to stop; returns the exit code, 1 when a port, ``metrics`` being that of ``/metrics``, is taken.

    ``unfit`` says why the service cannot work until somebody changes a setting: it returns `UNFIT` then, and does
    not start. With several ``workers`` this process starts them and serves nobody itself.
    """
    configure_logging(service.name, settings)
    reason = asyncio.run(unfit())
    if reason is not None:
        get_logger().error("service stops", service=service.name, reason=reason)
        return UNFIT
    worker = Worker.this()
    try:
        if workers > 1 and worker is None:
            return serve_by_workers(f"services.{service.name}", workers, (host, port), (settings.metrics_host, metrics))
        _serve_here(service, settings, worker, (host, port), metrics)
    except (PortBusyError, OSError) as error:
        get_logger().error("service stops", service=service.name, reason=str(error))
        return 1
    return 0


def _serve_here(
    service: HttpService, settings: HttpSettings, worker: Worker | None, address: tuple[str, int], metrics: int
) -> None:
    if worker is not None:
        service = worker.as_one(service)
    app = create_app(service, title=f"PIP AI Stream: {service.name}", cors_origins=settings.allowed_origins())
    keep_loaded()
    allow_many_files()
    server = DrainingServer(http_config(app, *address), service.drain)
    if worker is not None:
        server.run([worker.listener()])
        return
    with metrics_server(settings.metrics_host, metrics):
        server.run()
