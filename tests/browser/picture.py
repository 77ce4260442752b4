"""Takes docs/images/demo.png, the page in mid-run: `python -m tests.browser.picture` from the root."""

import asyncio
import shutil
from pathlib import Path

from playwright.async_api import async_playwright, expect

from .conftest import LAUNCH_ARGS
from .fake_api import FakeApi, FakeServer
from .scripted_run import BEGINNING, play

TARGET = Path(__file__).parents[2] / "docs" / "images" / "demo.png"


async def take_picture() -> None:
    server = FakeServer(FakeApi())
    await server.start()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=LAUNCH_ARGS)
        page = await browser.new_page(base_url=server.url, viewport={"width": 1160, "height": 980})
        await page.goto("/demo/streaming")
        await page.get_by_test_id("file-input").set_input_files(
            {"name": "annual-report.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7"}
        )
        await expect(page.get_by_test_id("connection-file")).to_have_attribute("data-state", "open")
        for event in BEGINNING:
            play(server.api, [event])
            await asyncio.sleep(0.4)
        await expect(page.get_by_test_id("percent")).to_have_text("72 %")
        await page.screenshot(path=TARGET, full_page=True)
        await browser.close()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(take_picture())
