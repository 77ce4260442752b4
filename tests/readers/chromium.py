"""Readers inside Chromium, on a page of the stream's own origin."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import Browser, Page, Route

from tests.readers.heard import Follow, Heard

JAVASCRIPT = Path(__file__).parent / "javascript"


@asynccontextmanager
async def page_at(browser: Browser, origin: str, html: str) -> AsyncGenerator[Page]:
    """A page of that origin with this content, which finds our scripts below ``/javascript/``."""

    async def answer(route: Route) -> None:
        await route.fulfill(content_type="text/html; charset=utf-8", body=html)

    async def script(route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        await route.fulfill(content_type="text/javascript", body=(JAVASCRIPT / name).read_text())

    async with await browser.new_context() as context:
        page = await context.new_page()
        await page.route(f"{origin}/page", answer)
        await page.route(f"{origin}/javascript/*", script)
        yield page


def in_chromium(browser: Browser, follow: str) -> Follow:
    """``follow`` is an expression: what to call with a URL and with what is to be told of each event."""

    async def read(url: str, heard: Heard) -> None:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        async with page_at(browser, origin, "<!doctype html><title>Reader</title>") as page:
            await page.expose_function("heard", heard.told)
            await page.goto(f"{origin}/page")
            await page.evaluate(f"async (url) => ({follow})(url, heard)", url)

    return read


EVENTSOURCE = """async (url, heard) => {
  const { follow } = await import("/javascript/with_eventsource.js");
  await follow(EventSource, url, heard);
}"""

FETCH = """async (url, heard) => {
  const { follow, createPlainParser } = await import("/javascript/with_fetch.js");
  await follow(createPlainParser, url, heard);
}"""
