"""Idempotency-Key: a name for a request whose body has none."""

from typing import Any

import httpx2
import pytest

from tests.ingest.conftest import Log, Serve

PATH = "/stream/publish/workflow/w"
EVENT = {"step": "s", "progress": 1}


async def test_a_repeated_key_is_answered_with_the_first_place(client: httpx2.AsyncClient, log: Log) -> None:
    headers = {"idempotency-key": "8e03978e-40d5: again"}
    first = (await client.post(PATH, json=EVENT, headers=headers)).json()
    again = (await client.post(PATH, json=EVENT, headers=headers)).json()
    named = (await client.post(PATH, json={**EVENT, "event_id": "8e03978e-40d5: again"})).json()

    assert first["event_id"] == "8e03978e-40d5: again"
    assert again == named == {**first, "duplicate": True}
    assert len(await log.events("workflow:progress")) == 1


BATCH = "/stream/publish/batch"
ITEMS: list[dict[str, Any]] = [
    {"type": "workflow_progress", "workflow_id": "w", "step": f"step {number}", "progress": 1} for number in range(4)
]


@pytest.mark.parametrize(
    ("path", "first", "other"),
    [
        (PATH, EVENT, {**EVENT, "progress": 2}),
        (BATCH, ITEMS, ITEMS[2:]),
        (BATCH, ITEMS[:1], ITEMS),
        (BATCH, ITEMS, ITEMS[::-1]),
        (BATCH, [{**item, "event_id": item["step"]} for item in ITEMS], ITEMS),
    ],
    ids=["an event", "a part of a batch", "a longer batch", "another order", "other ids"],
)
async def test_a_key_with_another_body_is_refused_and_nothing_of_that_is_stored(
    client: httpx2.AsyncClient, log: Log, path: str, first: object, other: object
) -> None:
    """Else the events at its indexes would be answered as repeats of others."""
    headers = {"idempotency-key": "k"}
    assert (await client.post(path, json=first, headers=headers)).is_success
    before = await log.events("workflow:progress")

    for _ in range(2):
        refused = await client.post(path, json=other, headers=headers)
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/key-reused")
        assert refused.json()["errors"][0]["where"] == "header.idempotency-key"
        assert await log.events("workflow:progress") == before
    again = await client.post(path, json=first, headers=headers)
    assert again.is_success
    assert await log.events("workflow:progress") == before


async def test_a_body_that_was_refused_binds_no_key(client: httpx2.AsyncClient) -> None:
    headers = {"idempotency-key": "k"}
    for path, bad, good in ((PATH, {"step": ""}, EVENT), (BATCH, {}, ITEMS)):
        assert (await client.post(path, json=bad, headers=headers)).status_code == 422
        assert (await client.post(path, json=good, headers=headers)).is_success


async def test_the_missing_part_of_a_batch_may_come_under_another_key(client: httpx2.AsyncClient, log: Log) -> None:
    await client.post(BATCH, json=ITEMS[:2], headers={"idempotency-key": "k"})
    rest = (await client.post(BATCH, json=ITEMS[2:], headers={"idempotency-key": "the rest of k"})).json()

    assert rest["counts"]["appended"] == 2
    assert [fields["id"] for fields in await log.events("workflow:progress")] == [
        "k:0",
        "k:1",
        "the rest of k:0",
        "the rest of k:1",
    ]


async def test_a_key_is_bound_longer_than_its_events_are_recognised(serve: Serve, log: Log) -> None:
    """In a moment between them another body would be answered as a repeat. A repeat begins both times anew."""
    headers = {"idempotency-key": "k"}
    async with serve(idempotency_window=100) as client:
        for _ in range(2):
            assert (await client.post(PATH, json=EVENT, headers=headers)).is_success
            [bound] = [key async for key in log.redis.scan_iter(match=f"{log.keys.prefix}:request:*:k")]
            assert 100 < await log.redis.ttl(bound) <= 160
            await log.redis.expire(bound, 50)


async def test_what_another_hand_put_in_a_keys_place_keeps_nobody_out(client: httpx2.AsyncClient, log: Log) -> None:
    wrong = log.keys.request("default", "batch", "k")
    await log.redis.rpush(wrong, "by another hand")

    told = [await client.post(BATCH, json=items, headers={"idempotency-key": "k"}) for items in (ITEMS, ITEMS, [])]
    assert [answer.status_code for answer in told] == [200, 200, 422]


async def test_the_same_key_for_another_topic_is_another_event(client: httpx2.AsyncClient) -> None:
    headers = {"idempotency-key": "k"}
    answers = [await client.post(f"/stream/publish/workflow/{name}", json=EVENT, headers=headers) for name in "vw"]

    assert [answer.json()["duplicate"] for answer in answers] == [False, False]


async def test_a_key_and_an_event_id_may_say_the_same(client: httpx2.AsyncClient) -> None:
    answer = await client.post(PATH, json={**EVENT, "event_id": "k"}, headers={"idempotency-key": "k"})

    assert answer.json()["event_id"] == "k"


@pytest.mark.parametrize(
    ("event_id", "headers"),
    [
        ("other", [("idempotency-key", "k")]),
        (None, [("idempotency-key", "")]),
        (None, [("idempotency-key", "k" * 201)]),
        (None, [("idempotency-key", "a\tb")]),
        (None, [("idempotency-key", "k"), ("idempotency-key", "k")]),
    ],
    ids=["contradicts the body", "empty", "long", "cannot be shown", "twice"],
)
async def test_a_key_that_cannot_be_the_event_id_is_refused(
    client: httpx2.AsyncClient, log: Log, event_id: str | None, headers: list[tuple[str, str]]
) -> None:
    answer = await client.post(PATH, json={**EVENT, "event_id": event_id}, headers=headers)

    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["where"] == "header.idempotency-key"
    assert await log.every_key() == {}


async def test_the_key_is_described(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]

    for path in ("/stream/publish/workflow/{workflow_id}", "/stream/publish/batch"):
        assert "Idempotency-Key" in [parameter["name"] for parameter in paths[path]["post"]["parameters"]]
