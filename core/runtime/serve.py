"""Running an app as a process of its own."""

import signal
import sys
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from core.runtime.logs import configure_logging, get_logger
from core.runtime.metrics import PortBusyError, metrics_server
from core.runtime.settings import Settings

GRACEFUL_SECONDS: Final = 3
"""Seconds uvicorn waits for open requests when it is told to stop; without a limit it waits for the viewers."""


def serve(app: FastAPI, settings: Settings, *, service: str, host: str, port: int, metrics_port: int) -> int:
    """Serve until told to stop; returns the exit code, 1 when the port of ``/metrics`` is taken.

    ``metrics_port`` is where that goes unless the settings say otherwise. When ``port`` itself is taken uvicorn says
    so and exits.
    """
    configure_logging(service, settings)
    # uvicorn raises the signal again after its own shutdown: without this a stop as asked looks like a crash.
    signal.signal(signal.SIGTERM, _end)
    wanted = metrics_port if settings.metrics_port is None else settings.metrics_port
    try:
        with metrics_server(settings.metrics_host, wanted):
            uvicorn.run(
                app,
                host=host,
                port=port,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACEFUL_SECONDS,
            )
    except PortBusyError as error:
        get_logger().error("service stops", service=service, reason=str(error))
        return 1
    return 0


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
