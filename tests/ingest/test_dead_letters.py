"""Dead letters over HTTP."""

from typing import Any

import httpx2
import pytest
from prometheus_client import REGISTRY

from core.log.letters import Letters
from services.ingest import main
from services.ingest.dead_letters import measure_dead_letters
from tests.conftest import wait_until
from tests.core.dead_letters import DeadEnd
from tests.ingest.conftest import Log, Serve

PATH = "/stream/dead-letters"
UNREACHABLE = "redis://127.0.0.1:1"


@pytest.fixture
async def dead_end(log: Log) -> DeadEnd:
    """Four letters of workflows, one of them of another topic, and one of a notification."""
    end = DeadEnd(log.redis, log.keys, log.keys.source("workflow:progress", 0))
    for number in (1, 2, 3, 4):
        await end.park(number, topic=b"workflow:v" if number == 3 else b"workflow:w", error=f"fault {number}")
    await DeadEnd(log.redis, log.keys, log.keys.source("notifications", 0)).park(9, type=b"notification")
    return end


async def _post(client: httpx2.AsyncClient, what: str, **body: Any) -> httpx2.Response:
    return await client.post(f"{PATH}/{what}", json=body)


async def test_letters_are_listed_page_by_page_without_their_events(
    client: httpx2.AsyncClient, dead_end: DeadEnd
) -> None:
    assert len(await dead_end.ids()) == 4
    seen: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        page = (await client.get(PATH, params={"limit": "2", **after})).json()
        assert len(page["letters"]) <= 2
        seen += page["letters"]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert [(letter["source"], letter["id"]) for letter in seen] == [
        *(("workflow:progress", f"{number}-0") for number in (1, 2, 3, 4)),
        ("notifications", "9-0"),
    ]
    assert "fields" not in seen[0]
    assert (seen[0]["error"], seen[0]["attempts"]) == ("ValueError: fault 1", 1)


async def test_a_list_has_what_fits_the_filter(client: httpx2.AsyncClient, dead_end: DeadEnd) -> None:
    assert len(await dead_end.ids()) == 4
    for query, ids in (
        ({"source": "notifications"}, ["9-0"]),
        ({"type": "notification"}, ["9-0"]),
        ({"topic": "workflow:v"}, ["3-0"]),
        ({"error": "FAULT 2"}, ["2-0"]),
        ({"parked_before": "2020-01-01T00:00:00Z"}, []),
    ):
        page = (await client.get(PATH, params=query)).json()
        assert [letter["id"] for letter in page["letters"]] == ids, query


async def test_one_letter_is_shown_with_its_event(client: httpx2.AsyncClient, dead_end: DeadEnd) -> None:
    for name in (dead_end.source.name, "workflow%3Aprogress"):
        letter = (await client.get(f"{PATH}/{name}/3-0")).json()
        assert (letter["topic"], letter["stream_id"]) == ("workflow:v", "3-0")
        assert letter["fields"]["id"] == "e1"


WRONG_QUESTIONS = {
    "?limit=0": "query.limit",
    "?limit=x": "query.limit",
    "?colour=red": "query.colour",
    "?source=mail": "query.source",
    "?after=mail/1-0": "query.after",
    "?after=1-0": "query.after",
    "?parked_after=yesterday": "query.parked_after",
    "/mail/1-0": "path.source",
    "/workflow:progress/x": "path.letter_id",
    "/workflow:progress/1-99999999999999999999": "path.letter_id",
}


async def test_a_wrong_question_is_answered_with_what_is_wrong(client: httpx2.AsyncClient) -> None:
    for path, where in WRONG_QUESTIONS.items():
        answer = await client.get(f"{PATH}{path}")
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), path
        assert [fault["where"] for fault in answer.json()["errors"]] == [where], path


async def test_a_letter_that_is_not_there_is_a_404(client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"{PATH}/workflow:progress/7-7")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown-letter")


async def test_named_letters_are_redriven(client: httpx2.AsyncClient, log: Log, dead_end: DeadEnd) -> None:
    answer = await _post(client, "redrive", source="workflow:progress", ids=["2-0", "1-0", "7-7"])
    assert answer.json() == {"redriven": 2, "refused": 0, "gone": 1, "already": 0, "more": False}
    assert [fields["redriven"] for fields in await log.events("workflow:progress")] == [
        "workflow:progress 1-0",
        "workflow:progress 2-0",
    ]
    assert await dead_end.ids() == ["3-0", "4-0"]


@pytest.mark.usefixtures("dead_end")
async def test_who_asks_again_is_told_that_it_was_done_already(client: httpx2.AsyncClient) -> None:
    before = _counted("pipai_redriven_letters_total")
    for answered in ({"redriven": 2, "already": 0}, {"redriven": 0, "already": 2}):
        answer = await _post(client, "redrive", source="workflow:progress", ids=["1-0", "2-0"])
        assert answer.status_code == 200
        assert answer.json() == {"refused": 0, "gone": 0, "more": False, **answered}
    assert _counted("pipai_redriven_letters_total") - before == 2


async def test_letters_that_fit_are_redriven_up_to_the_limit(client: httpx2.AsyncClient, dead_end: DeadEnd) -> None:
    answer = await _post(client, "redrive", topic="workflow:w", limit=2)
    assert answer.json() == {"redriven": 2, "refused": 0, "gone": 0, "already": 0, "more": True}
    assert await dead_end.ids() == ["3-0", "4-0"]


async def test_everything_is_redriven_or_purged_on_demand_only(client: httpx2.AsyncClient, dead_end: DeadEnd) -> None:
    before = _counted("pipai_purged_letters_total")
    assert (await _post(client, "redrive", source="notifications")).json()["redriven"] == 1
    assert (await _post(client, "purge", all=True)).json() == {"purged": 4, "gone": 0, "more": False}
    assert _counted("pipai_purged_letters_total") - before == 4
    assert (await dead_end.ids(), await dead_end.log()) == ([], [])


async def test_named_letters_are_purged(client: httpx2.AsyncClient, dead_end: DeadEnd) -> None:
    answer = await _post(client, "purge", source="workflow:progress", ids=["2-0", "7-7"])
    assert answer.json() == {"purged": 1, "gone": 1, "more": False}
    assert await dead_end.ids() == ["1-0", "3-0", "4-0"]


UNCLEAR: list[dict[str, Any]] = [
    {},
    {"all": False},
    {"all": True, "topic": "workflow:w"},
    {"ids": ["1-0"]},
    {"ids": ["1-0"], "source": "workflow:progress", "topic": "workflow:w"},
    {"ids": [], "source": "workflow:progress"},
    {"ids": ["x"], "source": "workflow:progress"},
    {"ids": ["1-0"] * 201, "source": "workflow:progress"},
    {"source": "mail"},
    {"source": "mail", "ids": ["1-0"]},
    {"all": True, "limit": 0},
    {"everything": True},
]


async def test_what_is_not_said_clearly_changes_nothing(client: httpx2.AsyncClient, dead_end: DeadEnd) -> None:
    for what in ("redrive", "purge"):
        for body in UNCLEAR:
            answer = await _post(client, what, **body)
            assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid"), body
        unknown = await _post(client, what, source="workflow:progress", ids=["7-7", "8-8"])
        assert (unknown.status_code, unknown.json()["type"]) == (404, "/problems/unknown-letter")
    assert (len(await dead_end.ids()), await dead_end.log()) == (4, [])


async def test_a_page_of_another_origin_may_not_purge(client: httpx2.AsyncClient, dead_end: DeadEnd) -> None:
    answer = await client.post(f"{PATH}/purge", json={"all": True}, headers={"Origin": "https://elsewhere.example"})
    assert (answer.status_code, len(await dead_end.ids())) == (403, 4)


async def test_redis_away_is_a_503_to_try_again(serve: Serve) -> None:
    async with serve(redis_url=UNREACHABLE) as client:
        answers = [
            await client.get(PATH),
            await client.get(f"{PATH}/workflow:progress/1-0"),
            await _post(client, "redrive", all=True),
            await _post(client, "purge", source="workflow:progress", ids=["1-0"]),
        ]
    assert [(answer.status_code, answer.headers["retry-after"]) for answer in answers] == [(503, "1")] * 4
    assert all(answer.json()["type"] == "/problems/log-unavailable" for answer in answers)


def _counted(metric: str, source: str = "workflow:progress") -> float:
    return REGISTRY.get_sample_value(metric, {"source": source}) or 0


async def test_how_many_letters_there_are_and_how_old_is_measured(log: Log, dead_end: DeadEnd) -> None:
    await measure_dead_letters(Letters(log.redis, log.keys))
    assert _counted("pipai_dead_letters") == 4
    assert _counted("pipai_dead_letter_oldest_seconds") > 0
    await log.redis.delete(log.keys.dead(dead_end.source))
    await measure_dead_letters(Letters(log.redis, log.keys))
    assert _counted("pipai_dead_letters") == 0
    assert _counted("pipai_dead_letter_oldest_seconds") == 0


async def test_ingest_measures_again_and_again(
    serve: Serve, dead_end: DeadEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "MEASURE_INTERVAL", 0.05)
    async with serve() as client:
        await wait_until(lambda: _counted("pipai_dead_letters") == 4)
        await _post(client, "purge", all=True)
        await wait_until(lambda: _counted("pipai_dead_letters") == 0)
    assert await dead_end.ids() == []
