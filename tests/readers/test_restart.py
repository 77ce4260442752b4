"""A page that watches while the only process of the api is replaced."""

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Browser

from core.runtime.ports import free_port
from tests.api.stream import opened
from tests.conftest import wait_until
from tests.readers.chromium import page_at

pytestmark = [pytest.mark.chromium, pytest.mark.asyncio(loop_scope="session")]

OTHERS = 40
"""Viewers beside the page: they have the drain take two seconds."""

WATCH = """(count) => {
  window.streams = Array.from({length: count}, (_, number) => new EventSource(`/stream/workflow/w${number}`));
}"""


@contextmanager
def _api(port: int, redis_url: str, key_prefix: str, log: Path) -> Generator[subprocess.Popen[bytes]]:
    own = {"REDIS_URL": redis_url, "KEY_PREFIX": key_prefix, "PORT": str(port), "METRICS_PORT": "0"}
    brief = {"RECONNECT_INTERVAL": "200", "DRAIN_SECONDS": "10"}
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.api"], env={**os.environ, **own, **brief}, stderr=file
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_no_eventsource_is_closed_for_good_by_a_process_that_drains(
    browser: Browser, redis_url: str, key_prefix: str, tmp_path: Path
) -> None:
    """Sent away early, it comes back to the very process that lets nobody in, again and again."""
    port, log = free_port(), tmp_path / "api.log"
    origin = f"http://127.0.0.1:{port}"

    async def is_ready() -> bool:
        try:
            async with httpx2.AsyncClient() as client:
                return (await client.get(f"{origin}/readyz")).status_code == 200
        except httpx2.TransportError:
            return False

    async with page_at(browser, origin, "<!doctype html><title>Watcher</title>") as page, AsyncExitStack() as stack:

        async def states() -> list[int]:
            return await page.evaluate("window.streams.map((stream) => stream.readyState)")

        async def all_open() -> bool:
            return await states() == [1, 1, 1, 1]

        with _api(port, redis_url, key_prefix, log) as process:
            await wait_until(is_ready, 30)
            for number in range(OTHERS):
                await stack.enter_async_context(opened(port, f"/stream/user/u{number}"))
            await page.goto(f"{origin}/page")
            await page.evaluate(WATCH, 4)
            await wait_until(all_open, 10)
            process.terminate()
            await wait_until(lambda: process.poll() is not None, 20)
        assert 2 not in await states()
        with _api(port, redis_url, key_prefix, log):
            await wait_until(all_open, 30)
    assert "Traceback" not in log.read_text()
