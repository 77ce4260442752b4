"""A browser for all tests of the page, and for each a page of its own and an api that obeys the test."""

import shutil
from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from .fake_api import FakeApi, FakeServer

LAUNCH_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class ConsoleErrors(list[str]):
    """What the browser complained about on the page of this test."""

    def hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.append(message.text)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=LAUNCH_ARGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[FakeServer]:
    server = FakeServer(FakeApi())
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def api(server: FakeServer) -> FakeApi:
    return server.api


@pytest_asyncio.fixture(loop_scope="session")
async def console() -> ConsoleErrors:
    return ConsoleErrors()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, server: FakeServer, console: ConsoleErrors) -> AsyncIterator[Page]:
    """The demo page, open. A script error on it fails any test."""
    crashes: list[str] = []
    async with await browser.new_context(base_url=server.url, accept_downloads=True) as context:
        page = await context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", console.hear)
        page.on("pageerror", lambda error: crashes.append(str(error)))
        await page.goto("/demo/streaming")
        yield page
    assert crashes == []
