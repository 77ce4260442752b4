from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from .fake_api import FakeApi, FakeServer, problem

pytestmark = [pytest.mark.chromium, pytest.mark.asyncio(loop_scope="session")]


async def test_a_chosen_file_is_sent_with_its_user(page: Page, api: FakeApi, tmp_path: Path) -> None:
    document = tmp_path / "report.md"
    document.write_text("# Report")
    await page.get_by_text("Options").click()
    await page.get_by_label("User id").fill("user-7")
    await page.get_by_label("Choose a file").set_input_files(document)
    await expect(page.get_by_test_id("workflow-id")).to_be_visible()
    assert api.uploads == [("report.md", b"# Report", "user-7")]


async def test_a_dropped_file_is_sent(page: Page, api: FakeApi) -> None:
    transfer = await page.evaluate_handle(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["dropped"], "dropped.txt", { type: "text/plain" }));
            return transfer;
        }"""
    )
    await page.get_by_test_id("dropzone").dispatch_event("drop", {"dataTransfer": transfer})
    await expect(page.get_by_test_id("workflow-id")).to_be_visible()
    assert api.uploads == [("dropped.txt", b"dropped", None)]


async def test_a_refused_upload_shows_what_and_where(page: Page, api: FakeApi) -> None:
    api.upload_refusal = problem(
        415,
        "Unsupported file",
        "A ZIP archive cannot be analysed",
        errors=[{"where": "file", "what": "application/zip"}],
    )
    await page.get_by_role("button", name="Run sample").click()
    refusal = page.get_by_test_id("upload-error")
    await expect(refusal).to_contain_text("Unsupported file")
    await expect(refusal).to_contain_text("A ZIP archive cannot be analysed")
    await expect(refusal).to_contain_text("file: application/zip")
    await expect(page.get_by_role("status")).to_contain_text("A ZIP archive cannot be analysed")
    await expect(page.get_by_test_id("empty")).to_be_visible()

    api.upload_refusal = None
    await page.get_by_role("button", name="Run sample").click()
    await expect(refusal).to_be_hidden()


async def test_an_answer_without_problem_details_is_still_told(page: Page, api: FakeApi) -> None:
    """A proxy's own page, say."""
    api.upload_refusal = problem(502, "", "")
    api.upload_refusal.body = b"<h1>Bad gateway</h1>"
    api.upload_refusal.headers["Content-Length"] = str(len(api.upload_refusal.body))
    await page.get_by_role("button", name="Run sample").click()
    await expect(page.get_by_test_id("upload-error")).to_contain_text("The server answered 502")


async def test_a_running_upload_can_be_canceled(page: Page, api: FakeApi) -> None:
    api.upload_gate.clear()
    await page.get_by_role("button", name="Run sample").click()
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_test_id("upload-phase")).to_contain_text("Canceled")
    await expect(page.get_by_test_id("empty")).to_be_visible()
    api.upload_gate.set()


async def test_an_upload_to_a_server_that_is_gone_says_so(page: Page, server: FakeServer) -> None:
    await server.stop()
    await page.get_by_role("button", name="Run sample").click()
    await expect(page.get_by_test_id("upload-error")).to_contain_text("did not reach the server")
