import json

import pytest
from playwright.async_api import Page, expect

from .conftest import ConsoleErrors
from .fake_api import WORKFLOW, FakeApi, now
from .scripted_run import BEGINNING, REST, RESULT, SUMMARY, ai, play, workflow

pytestmark = [pytest.mark.chromium, pytest.mark.asyncio(loop_scope="session")]


async def test_a_sample_is_uploaded_moves_and_shows_its_result(
    page: Page, api: FakeApi, console: ConsoleErrors
) -> None:
    """From the button to the result on one page, and the browser has nothing to complain about."""
    await page.get_by_role("button", name="Run sample").click()
    await expect(page.get_by_test_id("upload-phase")).to_have_text("Uploaded")
    await expect(page.get_by_test_id("connection-file").get_by_test_id("connection-state")).to_have_text("Open")
    await expect(page.get_by_test_id("connection-workflow")).to_have_attribute("data-state", "open")

    play(api, BEGINNING)
    bar = page.get_by_role("progressbar", name="Workflow progress")
    await expect(bar).to_have_attribute("aria-valuetext", "72 %, Analyse")
    await expect(page.get_by_test_id("status")).to_have_text("Running")
    await expect(page.get_by_test_id("message")).to_have_text("Writing the summary")
    await expect(page.get_by_test_id("ai-text")).to_have_text(SUMMARY[:110].strip())
    await expect(page.get_by_test_id("file-status")).to_have_text("Completed")

    play(api, REST)
    await expect(page.get_by_test_id("status")).to_have_text("Completed")
    await expect(page.get_by_test_id("percent")).to_have_text("100 %")
    steps = page.get_by_test_id("step")
    await expect(steps).to_have_count(4)
    assert [(await step.inner_text()).split("\n")[1] for step in await steps.all()] == [
        "Identify",
        "Extract",
        "Analyse",
        "Conclude",
    ]
    await expect(page.get_by_test_id("result")).to_contain_text("Key phrases")
    await expect(page.get_by_test_id("result")).to_contain_text(SUMMARY)
    assert json.loads(await page.get_by_test_id("result-raw").text_content() or "") == RESULT
    [(name, content, user)] = api.uploads
    assert (name, user) == ("sample.txt", None)
    assert b"Every step of the work is an event" in content
    assert console == []


async def test_an_existing_workflow_is_shown_from_the_state_it_has(page: Page, api: FakeApi) -> None:
    """A finished workflow arrives as a view with its latest event: nothing is folded twice."""
    ended = now()
    play(api, [workflow("conclude", 100, "Done", result=RESULT)])
    api.workflow.view = {
        "id": WORKFLOW,
        "run_id": "r1",
        "status": "completed",
        "step": "conclude",
        "progress": 100,
        "message": "Done",
        "result": RESULT,
        "steps": [
            {"name": "identify", "state": "completed", "progress": 8, "started": ended, "ended": ended},
            {"name": "conclude", "state": "completed", "progress": 100, "started": ended, "ended": ended},
        ],
        "ai": {"step": "summary", "message": None, "model": "local", "text": SUMMARY, "result": None},
        "started": ended,
        "updated": ended,
    }
    await page.get_by_label("Workflow id").fill(WORKFLOW)
    await page.get_by_role("button", name="Watch").click()
    await expect(page.get_by_test_id("status")).to_have_text("Completed")
    api.workflow.write(api.workflow.frames[0])
    await expect(page.get_by_test_id("log-row")).to_have_count(2)
    await expect(page.get_by_test_id("step")).to_have_count(2)
    await expect(page.get_by_test_id("ai-text")).to_have_text(SUMMARY)
    await expect(page.get_by_test_id("result")).to_contain_text("4,210")


async def test_a_reload_comes_back_to_the_same_workflow(page: Page, api: FakeApi) -> None:
    await page.get_by_role("button", name="Run sample").click()
    await expect(page.get_by_test_id("workflow-id")).to_have_text(WORKFLOW)
    await page.reload()
    await expect(page.get_by_test_id("workflow-id")).to_have_text(WORKFLOW)
    await expect(page.get_by_test_id("connection-file")).to_have_attribute("data-state", "open")
    assert len(api.uploads) == 1


async def test_an_id_with_any_printable_character_is_watched(page: Page, api: FakeApi) -> None:
    await page.get_by_test_id("watch-id").fill("naïve id? #1 100%")
    await page.get_by_test_id("watch").click()
    await expect(page.get_by_test_id("message")).to_contain_text("Nothing has been published")
    assert api.asked("workflow/naïve id? #1 100%") == [None]


async def test_a_failed_step_is_told_as_an_alert(page: Page, api: FakeApi) -> None:
    await page.goto(f"/demo/streaming?workflow={WORKFLOW}")
    await expect(page.get_by_test_id("connection-workflow")).to_have_attribute("data-state", "open")
    play(api, [workflow("extract", 10, "Page 1 of 12"), workflow("extract", 10, "", error="The PDF is encrypted")])
    await expect(page.get_by_role("alert")).to_have_text("The PDF is encrypted")
    await expect(page.get_by_test_id("status")).to_have_text("Failed")
    await expect(page.get_by_test_id("step")).to_contain_text("Failed")


async def test_what_comes_late_does_not_change_the_verdict(page: Page, api: FakeApi) -> None:
    await page.goto(f"/demo/streaming?workflow={WORKFLOW}")
    await expect(page.get_by_test_id("connection-workflow")).to_have_attribute("data-state", "open")
    play(api, [workflow("conclude", 100, "Done"), workflow("extract", 40, "Page 5", late=True)])
    await expect(page.get_by_test_id("log-row")).to_have_count(3)
    await expect(page.get_by_test_id("percent")).to_have_text("100 %")
    await expect(page.get_by_test_id("status")).to_have_text("Completed")


async def test_markup_in_any_field_is_shown_as_text(page: Page, api: FakeApi) -> None:
    """A producer's text is never the page's code."""
    evil = "<img src=x onerror=alert(1)>"
    await page.goto(f"/demo/streaming?workflow={WORKFLOW}")
    await expect(page.get_by_test_id("connection-workflow")).to_have_attribute("data-state", "open")
    play(api, [ai(evil, model=evil), workflow(evil, 100, evil, result={evil: [evil, {"deep": evil}]})])
    await expect(page.get_by_test_id("message")).to_have_text(evil)
    await expect(page.get_by_test_id("ai-text")).to_have_text(evil)
    await expect(page.get_by_test_id("result")).to_contain_text(evil)
    await expect(page.locator("img")).to_have_count(0)


async def test_temporals_answer_is_shown_beside_the_view(page: Page, api: FakeApi) -> None:
    """The answer on connect has no id: it is told, and not folded."""
    await page.goto(f"/demo/streaming?workflow={WORKFLOW}")
    await expect(page.get_by_test_id("connection-workflow")).to_have_attribute("data-state", "open")
    play(api, [workflow("extract", 40, "Page 5 of 12")])
    api.workflow.write(b'event: temporal_status\ndata: {"workflow_id": "wf-1", "status": "completed"}\n\n')
    await expect(page.get_by_test_id("temporal")).to_have_text("Temporal: completed")
    await expect(page.get_by_test_id("status")).to_have_text("Running")
