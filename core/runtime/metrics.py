"""Serving a process's metrics on a port of their own."""

from collections.abc import Generator
from contextlib import contextmanager

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server


class PortBusyError(RuntimeError):
    """Another program listens on a port this one needs."""


@contextmanager
def metrics_server(host: str, port: int, registry: CollectorRegistry = REGISTRY) -> Generator[int]:
    """Serve ``/metrics`` while the block runs; yields the port, which is a free one when ``port`` is 0.

    Raises:
        PortBusyError: another program has the port.
    """
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise PortBusyError(
            f"port {port} on {host} is taken, so /metrics cannot be served; set METRICS_PORT to another"
        ) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
