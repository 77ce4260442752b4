"""What a log line looks like."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from core.runtime.logs import configure_logging, get_logger
from core.runtime.settings import Settings


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def test_a_line_is_a_json_object_with_time_level_and_service(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("api", Settings())
    get_logger(part="hub").info("stream reading goes on", partition=0)
    logging.getLogger("uvicorn.error").warning("from %s", "elsewhere")
    own, foreign = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert own.pop("timestamp").endswith("Z")
    assert own == {
        "event": "stream reading goes on",
        "level": "info",
        "service": "api",
        "part": "hub",
        "partition": 0,
    }
    assert (foreign["event"], foreign["level"], foreign["service"]) == ("from elsewhere", "warning", "api")


def test_an_exception_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("api", Settings())
    try:
        _ = dict[str, str]()["gone"]
    except LookupError:
        get_logger().exception("stream change cannot be read")
    [line] = capsys.readouterr().err.splitlines()
    assert "KeyError: 'gone'" in json.loads(line)["exception"]


@pytest.mark.parametrize("debug", [True, False])
def test_debug_lines_are_there_when_asked_for(capsys: pytest.CaptureFixture[str], debug: bool) -> None:
    configure_logging("api", Settings(debug=debug))
    get_logger().debug("stream event delivered")
    assert ("stream event delivered" in capsys.readouterr().err) is debug
