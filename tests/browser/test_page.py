import pytest
from playwright.async_api import Page, expect

from .conftest import ConsoleErrors
from .fake_api import WORKFLOW, FakeApi
from .scripted_run import BEGINNING, REST, play, workflow

pytestmark = [pytest.mark.chromium, pytest.mark.asyncio(loop_scope="session")]


async def test_every_part_has_its_role_and_name(page: Page, console: ConsoleErrors) -> None:
    for region in ("Analyse a document", "Watch a workflow", "Workflow", "Connection", "Event log"):
        await expect(page.get_by_role("region", name=region, exact=True)).to_be_visible()
    for button in ("Run sample", "Watch", "Pause", "Clear", "Download NDJSON"):
        await expect(page.get_by_role("button", name=button, exact=True)).to_be_visible()
    for label in ("Choose a file", "Workflow id", "Event type", "Filter events"):
        await expect(page.get_by_label(label, exact=True)).to_be_attached()
    await expect(page.get_by_role("status")).to_have_count(1)
    await expect(page.get_by_role("log", name="Event log")).to_be_attached()
    await expect(page.get_by_role("alert")).to_be_empty()
    await expect(page.get_by_test_id("empty")).to_contain_text("Nothing is being watched yet")
    assert console == []


async def test_the_keyboard_reaches_every_control(page: Page) -> None:
    """In the order in which they are read; the focus never moves by itself."""
    reached: list[str] = []
    for _ in range(12):
        await page.keyboard.press("Tab")
        reached.append(await page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    expected = ["Skip to the workflow", "file", "sample", "Options", "watch-id", "Watch", "log-type", "log-text"]
    assert reached[:8] == expected


async def test_the_focus_stays_while_a_workflow_runs(page: Page, api: FakeApi) -> None:
    sample = page.get_by_role("button", name="Run sample")
    await sample.focus()
    await sample.press("Enter")
    await expect(page.get_by_test_id("connection-file")).to_have_attribute("data-state", "open")
    play(api, BEGINNING + REST)
    await expect(page.get_by_test_id("percent")).to_have_text("100 %")
    await expect(sample).to_be_focused()


async def test_steps_and_connection_are_announced_and_not_every_percent(page: Page, api: FakeApi) -> None:
    await page.goto(f"/demo/streaming?workflow={WORKFLOW}")
    status = page.get_by_role("status")
    await expect(status).to_have_text("Waiting for the first event. Connection open.")
    play(api, [workflow("extract", 10, "Page 1")])
    await expect(status).to_have_text("Workflow running: Extract. Connection open.")
    play(api, [workflow("extract", 20, "Page 2")])
    await expect(page.get_by_test_id("percent")).to_have_text("20 %")
    await expect(status).to_have_text("Workflow running: Extract. Connection open.")


async def test_the_health_chip_names_what_is_ill(page: Page, api: FakeApi) -> None:
    await expect(page.get_by_test_id("health")).to_have_text("Healthy · 2 active streams")
    api.health = {"status": "degraded", "services": {"redis": "healthy", "temporal": "not_configured"}}
    await page.reload()
    await expect(page.get_by_test_id("health")).to_have_text("Degraded · temporal not configured")
    await expect(page.get_by_test_id("health")).to_have_attribute("data-state", "degraded")


@pytest.mark.parametrize("width", [320, 780, 1240])
async def test_nothing_is_wider_than_the_window(page: Page, api: FakeApi, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 800})
    await page.get_by_role("button", name="Run sample").click()
    await expect(page.get_by_test_id("connection-file")).to_have_attribute("data-state", "open")
    play(api, [*BEGINNING, *REST, workflow("x" * 300, 50, "y" * 500, run_id="w" * 200)])
    await expect(page.get_by_test_id("percent")).to_have_text("50 %")
    assert await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
