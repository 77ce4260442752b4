"""The pure parts of the page, run in the browser they are made for."""

from typing import Any

import pytest
from playwright.async_api import Page

pytestmark = [pytest.mark.chromium, pytest.mark.asyncio(loop_scope="session")]

CONNECTED = {"kind": "connected", "data": {"retry": 1000, "attempts": 2, "heartbeat": 15}}


async def given(page: Page, *signals: dict[str, Any]) -> dict[str, Any]:
    """The link after these signals."""
    return await page.evaluate(
        """async (signals) => {
            const { idleLink, evolveLink } = await import("/demo/assets/link.js");
            return signals.reduce(evolveLink, idleLink());
        }""",
        list(signals),
    )


def connected(at: int) -> dict[str, Any]:
    return {**CONNECTED, "at": at}


def lost(at: int, *, online: bool = True, jitter: float = 0, retry_after: int = 0) -> dict[str, Any]:
    return {"kind": "lost", "at": at, "online": online, "jitter": jitter, "retryAfter": retry_after, "reason": "cut"}


async def test_a_lost_link_waits_for_the_told_interval(page: Page) -> None:
    link = await given(page, connected(0), lost(500))
    assert (link["state"], link["attempt"], link["retryAt"]) == ("reconnecting", 1, 1500)


async def test_jitter_and_retry_after_only_lengthen_the_wait(page: Page) -> None:
    assert (await given(page, connected(0), lost(0, jitter=1)))["retryAt"] == 1200
    assert (await given(page, connected(0), lost(0, retry_after=9000)))["retryAt"] == 9000


async def test_a_flapping_link_runs_out_of_attempts(page: Page) -> None:
    """Open for less than 10 s is no recovery: without this a flapping server is asked for ever."""
    signals = [connected(0), lost(9_000), connected(10_000), lost(11_000), connected(12_000), lost(13_000)]
    assert (await given(page, *signals))["state"] == "failed"


async def test_a_stable_link_has_all_attempts_again(page: Page) -> None:
    link = await given(page, connected(0), lost(1_000), connected(2_000), lost(12_000))
    assert (link["state"], link["attempt"]) == ("reconnecting", 1)


async def test_offline_keeps_trying_without_counting(page: Page) -> None:
    link = await given(page, connected(0), *[lost(at, online=False) for at in range(9)])
    assert (link["state"], link["attempt"], link["retryAt"]) == ("offline", 0, 1008)


async def test_nonsense_in_connected_changes_no_setting(page: Page) -> None:
    nonsense = {"kind": "connected", "at": 0, "data": {"retry": "soon", "attempts": -1, "heartbeat": None}}
    link = await given(page, nonsense)
    assert (link["retry"], link["attempts"], link["heartbeat"]) == (3000, 5, 15)


async def test_an_event_is_news_when_the_view_does_not_hold_it(page: Page) -> None:
    """(event's cursor, cursor of the view) → news."""
    cases = [
        ("e1.3", "e1.2", True),
        ("e1.2", "e1.2", False),
        ("e1.10", "e1.9", True),
        ("e2.1", "e1.9", True),
        ("e1.1", "0", True),
        ("0", "0", False),
        ("e1.1", None, True),
        ("garbage", "e1.1", False),
    ]
    told = await page.evaluate(
        """async (cases) => {
            const { isNews } = await import("/demo/assets/cursor.js");
            return cases.map(([cursor, seen]) => isNews(cursor, seen));
        }""",
        cases,
    )
    assert told == [news for _, _, news in cases]


async def test_the_fold_carries_a_view_on_as_the_server_does(page: Page) -> None:
    """Steps end with the next, AI text belongs to its step, and after the verdict only another run counts."""
    at = "2026-01-01T00:00:0"
    events = [
        ("ai_progress", {"step": "language", "delta": "English"}),
        ("workflow_progress", {"step": "extract", "progress": 0}),
        ("ai_progress", {"step": "summary", "delta": "One "}),
        ("ai_progress", {"step": "summary", "delta": "two"}),
        ("workflow_progress", {"step": "conclude", "progress": 100, "result": {"ok": True}}),
        ("temporal_status", {"status": "failed", "late": True}),
        ("workflow_progress", {"step": "extract", "progress": 0, "run_id": "next"}),
    ]
    stamped = [(name, {"workflow_id": "wf", "timestamp": f"{at}{n}Z", **data}) for n, (name, data) in enumerate(events)]
    views: list[dict[str, Any]] = await page.evaluate(
        """async (events) => {
            const { fold } = await import("/demo/assets/fold.js");
            let view = null;
            return events.map(([name, data]) => (view = fold(view, name, data)));
        }""",
        stamped,
    )
    assert [view["status"] for view in views] == ["running"] * 4 + ["completed"] * 2 + ["running"]
    assert [view["ai"]["text"] for view in views[:4]] == ["English", "English", "One ", "One two"]
    ended, again = views[5], views[6]
    assert [(step["name"], step["state"], step["ended"]) for step in ended["steps"]] == [
        ("extract", "completed", f"{at}4Z"),
        ("conclude", "completed", f"{at}4Z"),
    ]
    assert (ended["started"], ended["updated"], ended["result"]) == (f"{at}1Z", f"{at}4Z", {"ok": True})
    assert (again["run_id"], again["result"], len(again["steps"]), again["started"]) == ("next", None, 1, f"{at}6Z")
