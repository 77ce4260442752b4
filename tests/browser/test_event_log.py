import json
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from .fake_api import WORKFLOW, FakeApi
from .scripted_run import ai, play, workflow

pytestmark = [pytest.mark.chromium, pytest.mark.asyncio(loop_scope="session")]


async def watch_three_events(page: Page, api: FakeApi) -> None:
    """After it the log holds connected, two of progress and one of AI."""
    await page.goto(f"/demo/streaming?workflow={WORKFLOW}")
    await expect(page.get_by_test_id("connection-workflow")).to_have_attribute("data-state", "open")
    play(api, [workflow("extract", 10, "Page 1"), ai("Long work"), workflow("extract", 40, "Page 5")])
    await expect(page.get_by_test_id("log-row")).to_have_count(4)


async def test_a_row_shows_time_position_type_summary_and_opens_its_json(page: Page, api: FakeApi) -> None:
    await watch_three_events(page, api)
    row = page.get_by_test_id("log-row").nth(1)
    time, pos, kind, summary = (await row.inner_text()).split("\n")[:4]
    assert time.count(":") == 2
    assert (pos, kind, summary) == ("1", "workflow_progress", "10 % · extract · Page 1")
    await row.locator("summary").press("Enter")
    assert json.loads(await row.locator("pre").inner_text())["message"] == "Page 1"


async def test_the_log_is_filtered_by_type_and_by_text(page: Page, api: FakeApi) -> None:
    await watch_three_events(page, api)
    rows = page.get_by_test_id("log-row")
    await page.get_by_label("Event type").select_option("ai_progress")
    await expect(rows).to_have_count(1)
    await expect(page.get_by_test_id("log-count")).to_have_text("1 of 4 events")
    await page.get_by_label("Event type").select_option("")
    await page.get_by_label("Filter events").fill("PAGE 5")
    await expect(rows).to_have_count(1)
    await page.get_by_label("Filter events").fill("nothing like it")
    await expect(page.get_by_test_id("log-empty")).to_have_text("No event matches the filter.")
    await page.get_by_label("Filter events").fill("")
    await expect(rows).to_have_count(4)
    assert [(await row.inner_text()).split("\n")[2] for row in await rows.all()] == [
        "connected",
        "workflow_progress",
        "ai_progress",
        "workflow_progress",
    ]


async def test_a_paused_log_stands_still_and_catches_up(page: Page, api: FakeApi) -> None:
    """Only the log pauses: the workflow itself goes on."""
    await watch_three_events(page, api)
    await page.get_by_role("button", name="Pause").click()
    play(api, [workflow("extract", 50, "Page 6"), workflow("extract", 55, "Page 7")])
    await expect(page.get_by_test_id("percent")).to_have_text("55 %")
    await expect(page.get_by_test_id("log-count")).to_contain_text("Paused · 2 new")
    await expect(page.get_by_test_id("log-row")).to_have_count(4)
    await page.get_by_role("button", name="Resume").click()
    await expect(page.get_by_test_id("log-row")).to_have_count(6)


async def test_a_cleared_log_begins_anew(page: Page, api: FakeApi) -> None:
    await watch_three_events(page, api)
    await page.get_by_role("button", name="Clear").click()
    await expect(page.get_by_test_id("log-row")).to_have_count(0)
    play(api, [workflow("extract", 50, "Page 6")])
    await expect(page.get_by_test_id("log-row")).to_have_count(1)
    await expect(page.get_by_test_id("percent")).to_have_text("50 %")


async def test_what_is_shown_downloads_as_ndjson(page: Page, api: FakeApi, tmp_path: Path) -> None:
    await watch_three_events(page, api)
    await page.get_by_label("Event type").select_option("workflow_progress")
    await expect(page.get_by_test_id("log-row")).to_have_count(2)
    async with page.expect_download() as started:
        await page.get_by_role("button", name="Download NDJSON").click()
    target = tmp_path / "events.ndjson"
    await (await started.value).save_as(target)
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(line["cursor"], line["event"], line["data"]["progress"]) for line in lines] == [
        ("e1.1", "workflow_progress", 10),
        ("e1.3", "workflow_progress", 40),
    ]


async def test_the_log_keeps_the_newest_500(page: Page, api: FakeApi) -> None:
    await watch_three_events(page, api)
    play(api, [workflow("extract", 41, f"Line {number}") for number in range(510)])
    await expect(page.get_by_test_id("message")).to_have_text("Line 509")
    await expect(page.get_by_test_id("log-row")).to_have_count(500)
    await expect(page.get_by_test_id("log-row").first).to_contain_text("Line 10")
    await expect(page.get_by_test_id("log-row").last).to_contain_text("Line 509")
