"""Idempotency-Key: a name for a request whose body has none."""

import httpx2
import pytest

from tests.ingest.conftest import Log

PATH = "/stream/publish/workflow/w"
EVENT = {"step": "s", "progress": 1}


async def test_a_repeated_key_is_answered_with_the_first_place(client: httpx2.AsyncClient, log: Log) -> None:
    headers = {"idempotency-key": "8e03978e-40d5: again"}
    first = (await client.post(PATH, json=EVENT, headers=headers)).json()
    again = (await client.post(PATH, json={**EVENT, "progress": 2}, headers=headers)).json()
    named = (await client.post(PATH, json={**EVENT, "event_id": "8e03978e-40d5: again"})).json()

    assert first["event_id"] == "8e03978e-40d5: again"
    assert again == named == {**first, "duplicate": True}
    assert len(await log.events("workflow:progress")) == 1


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
