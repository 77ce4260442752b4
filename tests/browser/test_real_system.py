"""The page on the real system: a person drops a PDF and watches."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, FilePayload, expect

from tests.system.running import System
from tests.worker.samples import make_pdf

from .conftest import ConsoleErrors

pytestmark = [pytest.mark.chromium, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]


@pytest_asyncio.fixture(loop_scope="session")
async def system(tmp_path: Path) -> AsyncIterator[System]:
    async with System(tmp_path) as system:
        yield system


async def test_a_dropped_pdf_moves_to_its_result(browser: Browser, console: ConsoleErrors, system: System) -> None:
    """Upload, live steps, AI text and result on the page; reloaded, the page shows the finished run again."""
    async with await browser.new_context(base_url=system.address) as context:
        page = await context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", console.hear)
        await page.goto("/demo/streaming")
        document = FilePayload(name="survey.pdf", mimeType="application/pdf", buffer=make_pdf(12))
        await page.get_by_test_id("file-input").set_input_files(document)
        await expect(page.get_by_test_id("status")).to_have_attribute("data-status", "completed", timeout=60_000)
        await expect(page.get_by_test_id("percent")).to_have_text("100 %")
        await expect(page.get_by_test_id("steps")).to_contain_text("Extract")
        await expect(page.get_by_test_id("result")).to_contain_text("salmon")
        await expect(page.get_by_test_id("log")).to_contain_text("Page 12 of 12")
        await page.reload()
        await expect(page.get_by_test_id("status")).to_have_attribute("data-status", "completed")
        await expect(page.get_by_test_id("result")).to_contain_text("salmon")
    assert console == []
