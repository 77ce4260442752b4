"""A deployment to read from, by way of a connection that can be cut, and the readers."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from core.runtime.http_protocol import StreamingProtocol
from services.api.settings import ApiSettings
from tests.api.conftest import (
    Api,
    Producer,
    brief_farewell,
    no_temporal_of_the_surroundings,
    producing,
    projecting,
    serving,
)
from tests.browser.conftest import browser
from tests.conftest import wait_until
from tests.readers.chromium import EVENTSOURCE, FETCH, JAVASCRIPT, in_chromium
from tests.readers.heard import Reader
from tests.readers.line import Line
from tests.readers.programs import with_curl, with_node
from tests.readers.with_httpx import with_httpx_sse

__all__ = ["brief_farewell", "browser", "no_temporal_of_the_surroundings"]


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of our scripts, with the npm packages they import beside them."""
    folder = tmp_path_factory.mktemp("npm") / "javascript"
    shutil.copytree(JAVASCRIPT, folder, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    assert installed.returncode == 0, f"npm could not install the packages: {installed.stderr}"
    return folder


@pytest_asyncio.fixture(loop_scope="session")
async def producer(redis_url: str, key_prefix: str) -> AsyncIterator[Producer]:
    """Publishes; a projector brings it into the views."""
    async with projecting(redis_url, key_prefix), producing(redis_url, key_prefix) as producer:
        yield producer


@pytest.fixture
def settings() -> dict[str, Any]:
    """Settings of the api that this test is about."""
    return {}


@pytest_asyncio.fixture(
    loop_scope="session", params=[StreamingProtocol, "auto"], ids=["by transport", "by sse-starlette"]
)
async def api(
    request: pytest.FixtureRequest, redis_url: str, key_prefix: str, settings: dict[str, Any]
) -> AsyncIterator[Api]:
    """An api whose viewers come back soon, which follows the change feed."""
    values: dict[str, Any] = {"redis_url": redis_url, "key_prefix": key_prefix, "stream_block_time": 200, **settings}
    async with serving(ApiSettings(**values, reconnect_interval=100, heartbeat_interval=1), request.param) as api:
        await wait_until(api.ready)
        yield api


@pytest_asyncio.fixture(loop_scope="session")
async def line(api: Api) -> AsyncIterator[Line]:
    """What lies between the api and its readers."""
    async with Line.before(f"http://127.0.0.1:{api.port}") as line:
        yield line


@pytest.fixture
def curl() -> Reader:
    return Reader(with_curl(), "plain")


@pytest.fixture
def curl_compressed() -> Reader:
    return Reader(with_curl("--compressed"))


@pytest.fixture
def httpx_sse() -> Reader:
    return Reader(with_httpx_sse)


@pytest.fixture
def npm_eventsource(packages: Path) -> Reader:
    return Reader(with_node(packages / "eventsource_package.js"))


@pytest.fixture
def npm_eventsource_parser(packages: Path) -> Reader:
    return Reader(with_node(packages / "eventsource_parser_package.js"))


@pytest.fixture
def chromium_eventsource(browser: Browser) -> Reader:
    return Reader(in_chromium(browser, EVENTSOURCE))


@pytest.fixture
def chromium_fetch(browser: Browser) -> Reader:
    return Reader(in_chromium(browser, FETCH))
