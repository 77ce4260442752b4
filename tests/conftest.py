"""What all tests stand on: a real Redis, a real Temporal, waiting without sleeping, and named left-outs."""

import asyncio
import atexit
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from inspect import isawaitable
from typing import Any, TypeVar, cast, overload

import pytest
from hypothesis import settings
from redis import Redis

from core.log.keys import Keys
from services.standalone import checks
from services.standalone.embedded import redis_server, temporal_server
from tests.docker_redis import docker_redis

NEEDS = {"chromium": "chromium", "nginx": "nginx", "node": "node", "npm": "npm", "promtool": "promtool"}
"""Marker → the program that tests with this marker drive."""

LEFT_OUT = pytest.StashKey[Counter[str]]()

T = TypeVar("T")

settings.register_profile("shared machine", deadline=None)  # an example that takes long says nothing here
settings.load_profile("shared machine")


@overload
async def wait_until(
    condition: Callable[[], Awaitable[T]],
    timeout: float = ...,  # noqa: ASYNC109
    message: str = ...,
) -> T: ...
@overload
async def wait_until(
    condition: Callable[[], T],
    timeout: float = ...,  # noqa: ASYNC109
    message: str = ...,
) -> T: ...
async def wait_until(
    condition: Callable[[], Any],
    timeout: float = 10,  # noqa: ASYNC109 - it is the point of this function
    message: str = "the condition did not come true",
) -> Any:
    """Ask `condition` again and again until its answer is true, and return that answer.

    Fails the test with `message` and the last answer when that takes longer than `timeout` seconds.
    """
    answer: Any = None
    try:
        async with asyncio.timeout(timeout):
            while True:
                answer = condition()
                if isawaitable(answer):
                    answer = await answer
                if answer:
                    return answer
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"{message} (within {timeout} s; last answer: {answer!r})")


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of this test run: a container where Docker has the image, else a process of this machine."""
    with docker_redis() as url:
        if url is not None:
            yield url
            return
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.address


@pytest.fixture(scope="session")
def temporal_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a Temporal dev server of this test run."""
    with temporal_server(tmp_path_factory.mktemp("temporal")) as server:
        yield server.address


@pytest.fixture
def key_prefix(redis_url: str) -> Iterator[str]:
    """A `KEY_PREFIX` of this test alone. A key that stays forever by mistake fails the test."""
    yield from _own_prefix(redis_url)


@pytest.fixture
def other_prefix(redis_url: str) -> Iterator[str]:
    """As `key_prefix`, for another deployment on the same Redis."""
    yield from _own_prefix(redis_url)


def _own_prefix(redis_url: str) -> Iterator[str]:
    prefix = f"t{secrets.token_hex(6)}"
    yield prefix
    keys = Keys(prefix=prefix)
    connection = cast("Any", Redis)  # redis-py leaves its keyword arguments untyped
    with connection.from_url(redis_url, decode_responses=True) as redis:
        left: list[str] = list(redis.scan_iter(match=f"*{prefix}*", count=1000))
        forever = [key for key in left if redis.ttl(key) == -1 and not _is_permanent(keys, key)]
        if left:
            redis.delete(*left)
    assert not forever, f"keys without a TTL: {sorted(forever)}"


def _is_permanent(keys: Keys, key: str) -> bool:
    """Whether `keys`, with any number of partitions a test may have chosen, names this key as permanent."""
    return any(Keys(keys.prefix, partitions).is_permanent(key) for partitions in (1, 2, 4, 8, 16))


def _say_no_more() -> None:
    """What libraries in C say of each other at the very end (DuckDB: that it is still alive) is below the summary."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


atexit.register(_say_no_more)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = Counter()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this machine has no program for; with CI=true such a test stays, and fails."""
    if checks.required():
        return
    left_out = [item for item in items if _missing_program(item)]
    if not left_out:
        return
    config.stash[LEFT_OUT].update(str(_missing_program(item)) for item in left_out)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = _missing_program(item)
    if missing:
        pytest.fail(f"this test needs {missing}, which is not on PATH; with CI=true it is required")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A check that failed before the tests makes the whole run fail."""
    if checks.FAILED in os.environ.get(checks.SUMMARY, "") and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in os.environ.get(checks.SUMMARY, "").splitlines():
        terminalreporter.write_line(line, red=line.startswith(checks.FAILED))
    left_out = terminalreporter.config.stash[LEFT_OUT]
    if left_out:
        told = ", ".join(f"{count} tests (no {program})" for program, count in sorted(left_out.items()))
        terminalreporter.write_line(f"{checks.LEFT_OUT}{told}", yellow=True)


def _missing_program(item: pytest.Item) -> str | None:
    for marker, program in NEEDS.items():
        if item.get_closest_marker(marker) and shutil.which(program) is None:
            return program
    return None
