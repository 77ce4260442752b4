"""Redis did it, but its reply is lost: the call is made again, and nothing is appended twice."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from core.log.append import MAX_PER_CALL
from tests.ingest.conftest import Log, Serve
from tests.ingest.reply_thief import ReplyThief

EVENT = {"step": "s", "progress": 1}


async def _publish(client: httpx2.AsyncClient, number: int, **fields: Any) -> httpx2.Response:
    return await client.post("/stream/publish/workflow/w", json={**EVENT, "step": f"s{number}", **fields})


@pytest.mark.parametrize("lost", [1, 3])
async def test_an_event_whose_reply_is_lost_is_answered_as_the_first_and_only_one(
    serve: Serve, redis_url: str, log: Log, lost: int
) -> None:
    async with ReplyThief.before(redis_url) as thief, serve(redis_url=thief.url) as client:
        await _publish(client, 0)
        thief.steal(lost)
        answer = await _publish(client, 1)

    assert thief.stolen == lost
    assert (answer.status_code, answer.json()["offset"], answer.json()["duplicate"]) == (202, 2, False)
    assert len(await log.events("workflow:progress")) == 2


async def test_events_that_share_a_call_share_its_retry(serve: Serve, redis_url: str, log: Log) -> None:
    async with ReplyThief.before(redis_url) as thief, serve(redis_url=thief.url) as client:
        await _publish(client, 0)
        thief.steal(3)
        answers = await asyncio.gather(*(_publish(client, number) for number in range(1, 40)))

    told = [answer.json() for answer in answers]
    assert thief.stolen == 3
    assert sorted(one["offset"] for one in told) == list(range(2, 41))
    assert not any(one["duplicate"] for one in told)
    stored = await log.events("workflow:progress")
    assert len({fields["id"] for fields in stored}) == len(stored) == 40


async def test_when_every_reply_is_lost_the_producer_may_send_it_again(serve: Serve, redis_url: str, log: Log) -> None:
    async with ReplyThief.before(redis_url) as thief, serve(redis_url=thief.url) as client:
        await _publish(client, 0)
        thief.steal(100)
        refused = await _publish(client, 1, event_id="mine")
        thief.steal(0)
        again = await _publish(client, 1, event_id="mine")

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert (again.status_code, again.json()["offset"], again.json()["duplicate"]) == (202, 2, True)
    assert [fields["id"] for fields in await log.events("workflow:progress")][1:] == ["mine"]


@pytest.mark.parametrize("stored", [0, 400])
async def test_a_batch_of_which_nobody_knows_may_be_sent_again_under_its_key(
    serve: Serve, redis_url: str, log: Log, stored: int
) -> None:
    """The call whose replies were lost is in the log, what was behind it is not: the producer is told of both alike."""
    items = [
        {"type": "workflow_progress", "workflow_id": "w", "step": f"s{number}", "progress": 1} for number in range(1000)
    ]
    async with ReplyThief.before(redis_url) as thief, serve(redis_url=thief.url) as client:

        async def send(items: list[dict[str, Any]]) -> httpx2.Response:
            return await client.post("/stream/publish/batch", json=items, headers={"idempotency-key": f"{len(items)}"})

        await send(items[:1])  # from here on Redis knows the scripts
        thief.spare(1 + stored // MAX_PER_CALL)  # the first one binds the key
        thief.steal(100)
        refused = await send(items)
        kept = len(await log.events("workflow:progress")) - 1
        thief.steal(0)
        again = (await send(items)).json()["counts"]

    assert kept == stored + MAX_PER_CALL
    if stored:
        assert refused.json()["counts"] == {
            "appended": stored,
            "duplicate": 0,
            "invalid": 0,
            "unavailable": 1000 - stored,
        }
    else:
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert (again["appended"], again["duplicate"]) == (1000 - kept, kept)
    steps = [json.loads(fields["data"])["step"] for fields in await log.events("workflow:progress")]
    assert steps[1:] == [item["step"] for item in items]


async def test_a_batch_goes_on_after_a_lost_reply(serve: Serve, redis_url: str, log: Log) -> None:
    async with ReplyThief.before(redis_url) as thief, serve(redis_url=thief.url) as client:
        await _publish(client, 0)
        thief.steal(2)
        items = [{"type": "workflow_progress", "workflow_id": "w", **EVENT} for _ in range(1000)]
        answer = (await client.post("/stream/publish/batch", json=items)).json()

    assert thief.stolen == 2
    assert answer["counts"] == {"appended": 1000, "duplicate": 0, "invalid": 0, "unavailable": 0}
    assert [one["offset"] for one in answer["outcomes"]] == list(range(2, 1002))
    assert len(await log.events("workflow:progress")) == 1001
