import pytest
from playwright.async_api import Page, expect

from tests.conftest import wait_until

from .conftest import ConsoleErrors
from .fake_api import CUT, WORKFLOW, FakeApi, FakeServer, frame, problem
from .scripted_run import SUMMARY, ai, play, workflow

pytestmark = [pytest.mark.chromium, pytest.mark.asyncio(loop_scope="session")]


async def watch(page: Page) -> None:
    await page.goto(f"/demo/streaming?workflow={WORKFLOW}")
    await expect(page.get_by_test_id("connection-workflow")).to_have_attribute("data-state", "open")


async def test_a_cut_connection_goes_on_from_the_last_cursor(page: Page, api: FakeApi) -> None:
    """What was published in between arrives once, and the AI text is not doubled."""
    await watch(page)
    play(api, [workflow("analyse", 60, "Reading"), ai(SUMMARY[:38])])
    await expect(page.get_by_test_id("last-id").first).to_have_text("e1.2")
    api.workflow.write(CUT)
    await wait_until(lambda: not api.workflow.connections)
    play(api, [ai(SUMMARY[38:])])
    await expect(page.get_by_test_id("ai-text")).to_have_text(SUMMARY)
    assert api.asked() == [None, "e1.2"]
    await expect(page.get_by_test_id("connection-workflow")).to_have_attribute("data-state", "open")


async def test_the_attempt_and_its_countdown_are_shown(page: Page, api: FakeApi) -> None:
    """It obeys `retry` and `attempts` of `connected`; the last state stays and says that it is not live."""
    api.retry, api.attempts = 60_000, 7
    await watch(page)
    play(api, [workflow("extract", 40, "Page 5 of 12")])
    await expect(page.get_by_test_id("percent")).to_have_text("40 %")
    api.workflow.write(CUT)
    link = page.get_by_role("group", name="Workflow stream")
    await expect(link).to_contain_text("Reconnecting")
    await expect(link.get_by_test_id("connection-attempt")).to_have_text("attempt 1 of 7")
    countdown = await link.get_by_test_id("connection-countdown").inner_text()
    assert 55 <= int(countdown.split()[1]) <= 72
    await expect(page.get_by_test_id("notice")).to_contain_text("Not live")
    await expect(page.get_by_test_id("status")).to_have_text("Running")
    elapsed = await page.get_by_test_id("elapsed").inner_text()
    shown = await link.get_by_test_id("connection-countdown").inner_text()
    await expect(link.get_by_test_id("connection-countdown")).not_to_have_text(shown)
    await expect(page.get_by_test_id("elapsed")).to_have_text(elapsed)

    await page.get_by_role("button", name="Reconnect now").click()
    await expect(link).to_have_attribute("data-state", "open")
    assert api.asked() == [None, "e1.1"]
    await expect(page.get_by_test_id("notice")).to_be_hidden()


async def test_it_gives_up_after_the_attempts_and_reconnects_by_hand(page: Page, server: FakeServer) -> None:
    """A server that is gone: m attempts, one clear end, and a way back."""
    api = server.api
    api.retry, api.attempts = 50, 3
    await watch(page)
    play(api, [workflow("extract", 40, "Page 5 of 12")])
    await expect(page.get_by_test_id("percent")).to_have_text("40 %")
    await server.stop()
    link = page.get_by_test_id("connection-workflow")
    await expect(link).to_have_attribute("data-state", "failed")
    await expect(link).to_contain_text("attempt 3 of 3")
    await expect(page.get_by_role("alert")).to_contain_text("given up after 3 attempts")
    await expect(page.get_by_test_id("status")).to_have_text("Running")

    await server.start()
    await page.get_by_role("button", name="Reconnect now").click()
    await expect(link).to_have_attribute("data-state", "open")
    await expect(page.get_by_role("alert")).to_be_empty()
    await expect(page.get_by_test_id("reconnect")).to_be_hidden()
    assert api.asked() == [None, "e1.1"]


async def test_a_passing_refusal_is_tried_again_and_its_reason_told(page: Page, api: FakeApi) -> None:
    api.retry = 50
    api.refusal = problem(503, "Service unavailable", "Redis is away")
    api.refusal.headers["Retry-After"] = "1"
    await page.goto(f"/demo/streaming?workflow={WORKFLOW}")
    link = page.get_by_test_id("connection-workflow")
    await expect(link.get_by_test_id("connection-reason")).to_have_text("Redis is away")
    await expect(link.get_by_test_id("connection-countdown")).to_be_visible()
    api.refusal = None
    await expect(link).to_have_attribute("data-state", "open")


async def test_a_final_refusal_is_not_tried_again(page: Page, api: FakeApi) -> None:
    """One EventSource, one question why, and no more."""
    api.refusal = problem(403, "Forbidden", "This workflow is not yours")
    await page.goto(f"/demo/streaming?workflow={WORKFLOW}")
    await expect(page.get_by_role("alert")).to_have_text("The stream failed: This workflow is not yours.")
    await expect(page.get_by_test_id("connection-workflow")).to_have_attribute("data-state", "failed")
    assert api.asked() == [None, None]


async def test_a_stream_that_says_it_is_final_is_not_opened_again(page: Page, api: FakeApi) -> None:
    await watch(page)
    api.workflow.write(frame("disconnected", {"reason": "ended", "reconnect": False}))
    link = page.get_by_test_id("connection-workflow")
    await expect(link).to_contain_text("Ended")
    await expect(link.get_by_test_id("connection-reason")).to_have_text("ended")
    await wait_until(lambda: not api.workflow.connections)
    assert api.asked() == [None]


async def test_a_server_that_leaves_is_asked_again(page: Page, api: FakeApi) -> None:
    await watch(page)
    api.workflow.write(frame("disconnected", {"reason": "shutdown", "reconnect": True}))
    await wait_until(lambda: len(api.asked()) == 2)
    await expect(page.get_by_test_id("connection-workflow")).to_have_attribute("data-state", "open")


async def test_a_reset_shows_the_new_state_and_says_why(page: Page, api: FakeApi) -> None:
    await watch(page)
    play(api, [workflow("extract", 40, "Page 5 of 12")])
    await expect(page.get_by_test_id("percent")).to_have_text("40 %")
    view = {"status": "running", "step": "identify", "progress": 7, "message": "Again"}
    api.workflow.write(frame("reset", {"reason": "lost", "cursor": "e2.3", "view": view}, "e2.3"))
    await expect(page.get_by_test_id("percent")).to_have_text("7 %")
    await expect(page.get_by_test_id("notice")).to_contain_text("events were lost")
    await expect(page.get_by_test_id("last-id").first).to_have_text("e2.3")


async def test_garbage_is_logged_and_the_stream_goes_on(page: Page, api: FakeApi) -> None:
    await watch(page)
    api.workflow.write(b"event: workflow_progress\ndata: {half\n\nevent: workflow_progress\ndata: 7\n\nnonsense\n\n")
    play(api, [workflow("extract", 40, "Page 5 of 12")])
    await expect(page.get_by_test_id("percent")).to_have_text("40 %")
    await expect(page.get_by_test_id("log-row").filter(has_text="Unreadable")).to_have_count(2)


async def test_degraded_and_recovered_are_told(page: Page, api: FakeApi) -> None:
    await watch(page)
    degraded = {"code": "degraded", "message": "Redis is away; events may be late", "retryable": True}
    api.workflow.write(frame("error", degraded))
    await expect(page.get_by_test_id("notice")).to_have_text("Redis is away; events may be late")
    await expect(page.get_by_test_id("connection-workflow")).to_have_attribute("data-state", "open")
    api.workflow.write(frame("error", {"code": "recovered", "message": "Redis is back", "retryable": True}))
    await expect(page.get_by_test_id("notice")).to_be_hidden()


async def test_being_offline_uses_no_attempts(page: Page, api: FakeApi) -> None:
    api.retry, api.attempts = 50, 1
    await watch(page)
    await page.context.set_offline(True)
    api.workflow.write(CUT)
    link = page.get_by_test_id("connection-workflow")
    await expect(link).to_contain_text("Offline")
    asked = len(api.asked())
    await page.context.set_offline(False)
    await expect(link).to_have_attribute("data-state", "open")
    assert len(api.asked()) > asked


async def test_a_dead_silent_connection_is_found_by_asking_the_store(page: Page, api: FakeApi) -> None:
    """The view moved on and nothing came: the connection is dead, though nobody closed it."""
    api.heartbeat = 1
    await watch(page)
    silent, api.workflow.connections[:] = api.workflow.connections[:], []
    play(api, [workflow("extract", 40, "Page 5 of 12")])
    api.workflow.connections[:] = silent
    await expect(page.get_by_test_id("percent")).to_have_text("40 %")
    assert api.asked() == [None, "0"]


async def test_a_quiet_connection_is_left_alone(page: Page, api: FakeApi, console: ConsoleErrors) -> None:
    api.heartbeat = 1
    views: list[str] = []
    page.on("request", lambda request: views.append(request.url) if "/views/" in request.url else None)
    await watch(page)
    await wait_until(lambda: len(views) >= 2, 10)
    assert api.asked() == [None]
    assert console == []
