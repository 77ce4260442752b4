"""Serving a process's metrics, and the probes of a process that has no HTTP of its own, on one port."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    make_wsgi_app,  # pyright: ignore[reportUnknownVariableType]
)

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class PortBusyError(RuntimeError):
    """Another program listens on a port this one needs."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: a scrape every few seconds is no news."""


def _routes(registry: CollectorRegistry, ready: Callable[[], str | None]) -> "WSGIApplication":
    metrics: WSGIApplication = make_wsgi_app(registry)  # pyright: ignore[reportUnknownVariableType]

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
        match environ.get("PATH_INFO"):
            case "/livez":
                status, text = "200 OK", "alive"
            case "/readyz":
                missing = ready()
                status, text = ("200 OK", "ready") if missing is None else ("503 Service Unavailable", missing)
            case _:
                return list(metrics(environ, start_response))
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{text}\n".encode()]

    return application


@contextmanager
def metrics_server(
    host: str,
    port: int,
    *,
    ready: Callable[[], str | None] = lambda: None,
    registry: CollectorRegistry = REGISTRY,
) -> Generator[int]:
    """Serve ``/metrics``, ``/livez`` and ``/readyz`` while the block runs; yields the port, a free one for 0.

    ``ready`` is called from another thread: it returns what is missing, None when nothing is.

    Raises:
        PortBusyError: another program has the port.
    """
    try:
        server = make_server(host, port, _routes(registry, ready), _Server, _Quiet)
    except OSError as error:
        raise PortBusyError(
            f"port {port} on {host} is taken, so /metrics cannot be served; set METRICS_PORT to another"
        ) from error
    thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
