"""`/metrics` and the probes on a port of their own."""

import socket
import threading
from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry, Counter

from core.runtime.metrics import PortBusyError, metrics_server

HOST = "127.0.0.1"


def _get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_metrics_are_served_while_the_block_lasts() -> None:
    registry = CollectorRegistry()
    Counter("pipai_things_total", "Things.", registry=registry).inc(3)
    with metrics_server(HOST, 0, registry=registry) as port:
        status, text = _get(port, "/metrics")
    assert status == 200
    assert "pipai_things_total 3.0" in text
    with pytest.raises(ConnectionRefusedError):
        _get(port, "/metrics")
    assert not [thread for thread in threading.enumerate() if thread.name == "metrics"]


def test_probes_say_what_is_missing() -> None:
    missing: list[str | None] = [None]
    with metrics_server(HOST, 0, ready=lambda: missing[0]) as port:
        assert _get(port, "/livez") == (200, "alive\n")
        assert _get(port, "/readyz") == (200, "ready\n")
        missing[0] = "not following the streams"
        assert _get(port, "/readyz") == (503, "not following the streams\n")
        assert _get(port, "/livez") == (200, "alive\n")


def test_a_client_that_says_nothing_does_not_keep_others_waiting() -> None:
    with metrics_server(HOST, 0) as port, socket.create_connection((HOST, port)):
        assert _get(port, "/livez")[0] == 200


def test_a_taken_port_is_one_clear_sentence() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortBusyError) as refused, metrics_server(HOST, port):
            pass
    told = f"port {port} on {HOST} is taken, so /metrics cannot be served; set METRICS_PORT to another"
    assert str(refused.value) == told
