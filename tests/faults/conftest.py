"""Figures of the fault tests, shown at the end of the run; the history of a failed one stays in its folder."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.standalone.embedded import Server, redis_server
from tests.faults.scale import FULL, Scale, chosen

_FIGURES: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A full round takes minutes."""
    if chosen() is FULL:
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.timeout(600))


@pytest.fixture
def scale() -> Scale:
    return chosen()


@pytest.fixture
def seed() -> int:
    """Printed when the test fails; another one with each run."""
    number = secrets.randbelow(1_000_000)
    print(f"seed {number}")  # noqa: T201 - pytest shows it beside the failure
    return number


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Server]:
    """A Redis this test may break, at work."""
    server = redis_server(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[list[str]], None]:
    """Have figures shown at the end of the run."""
    return lambda figures: _FIGURES.append(f"{request.node.name}: {'; '.join(figures)}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _FIGURES:
        terminalreporter.write_line(line)
