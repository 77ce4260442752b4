"""A Redis of every shape, started once in a test run, and a deployment on it."""

import secrets
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from core.log.keys import Keys
from services.standalone.embedded import find_redis_server
from tests.projector.conftest import Deployment, deployed
from tests.projector.conftest import quick_watch as quick_watch  # noqa: PLC0414 - a fixture for the tests here too
from tests.shapes import servers
from tests.shapes.servers import Shape, connected

SHAPES: dict[str, Callable[[Path], AbstractContextManager[Shape]]] = {
    "installed Redis": lambda folder: servers.single(find_redis_server(), folder),
    "packaged Redis": lambda folder: servers.single(servers.newest_redis(), folder),
    "Valkey": lambda folder: servers.single(servers.valkey(), folder),
    "TLS and password": servers.with_tls,
    "Sentinel": servers.sentinels,
    "Cluster": servers.cluster,
}


@pytest.fixture(scope="session")
def start_once(tmp_path_factory: pytest.TempPathFactory) -> Generator[Callable[[str], Shape]]:
    """Calls give the shape with this name, which runs until the end of the test run."""
    running: dict[str, Shape] = {}
    with ExitStack() as stack:

        def start(name: str) -> Shape:
            if name not in running:
                running[name] = stack.enter_context(SHAPES[name](tmp_path_factory.mktemp("shape")))
            return running[name]

        yield start


@pytest.fixture(params=SHAPES)
def shape(start_once: Callable[[str], Shape], request: pytest.FixtureRequest) -> Shape:
    """Each shape in turn. Tests leave it as it was."""
    return start_once(request.param)


@pytest.fixture
def prefix(shape: Shape) -> Iterator[str]:
    """A `KEY_PREFIX` of this test alone. A key that stays forever by mistake fails the test."""
    prefix = f"t{secrets.token_hex(6)}"
    yield prefix
    forever: list[str] = []
    for port in shape.masters():
        with connected(port, shape.password) as redis:
            for key in list(redis.scan_iter(match=f"*{prefix}*", count=1000)):
                if redis.ttl(key) == -1 and not any(Keys(prefix, count).is_permanent(key) for count in (1, 4)):
                    forever.append(key)
                redis.delete(key)
    assert not forever, f"keys without a TTL: {sorted(forever)}"


@pytest.fixture(params=[1, 4], ids=["1 partition", "4 partitions"])
async def deployment(shape: Shape, prefix: str, request: pytest.FixtureRequest) -> AsyncIterator[Deployment]:
    """A deployment on each shape, with one partition and with four."""
    async with deployed(shape.address, prefix, request.param) as deployment:
        yield deployment


def settings_of(shape: Shape, prefix: str, **more: Any) -> dict[str, Any]:
    """The settings of a service on this Redis."""
    return {"redis_url": shape.address, "key_prefix": prefix, "stream_block_time": 100, **more}
