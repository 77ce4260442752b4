"""Log lines: one JSON object each, or readable text on a terminal."""

import logging
import sys
from typing import Any, cast

import structlog
from structlog.typing import FilteringBoundLogger

from core.runtime.settings import Settings


def configure_logging(service: str, settings: Settings) -> None:
    """Send the process's log lines to stderr with time, level and ``service``."""
    level = logging.DEBUG if settings.debug else logging.INFO
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render = _lines(settings)
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for chatty in ("faststream", "httpx2", "httpcore2", "temporalio", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _lines(settings: Settings) -> list[Any]:
    """The processors that make a line of an entry."""
    if settings.log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=plain)]


def get_logger(**bound: object) -> FilteringBoundLogger:
    """A logger that adds ``bound`` to each line."""
    return cast("FilteringBoundLogger", structlog.get_logger(**bound))
