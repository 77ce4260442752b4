"""Everything that speaks HTTP in one app, as ``uvicorn main:app`` starts it."""

import socket

import pytest
from structlog.testing import capture_logs

from core.runtime.settings import Settings
from services.standalone import web
from services.standalone.web import create_web


def _as_it_is(_service: str, _settings: Settings) -> None:
    pass


async def test_a_taken_metrics_port_is_one_sentence_and_the_app_goes_on(
    redis_url: str, key_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for name, value in {"REDIS_URL": redis_url, "KEY_PREFIX": key_prefix, "METRICS_PORT": str(port)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(web, "configure_logging", _as_it_is)  # the log lines of this process stay pytest's
        app = create_web()
        with capture_logs() as lines:
            async with app.router.lifespan_context(app):
                pass

    [line] = [line for line in lines if line["event"] == "metrics are not served"]
    assert f"port {port}" in line["reason"]
    assert "METRICS_PORT" in line["reason"]
