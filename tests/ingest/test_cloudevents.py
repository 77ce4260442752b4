"""CloudEvents over HTTP: one, one in headers, and many."""

import json
from typing import Any

import httpx2
import pytest

from tests.ingest.conftest import Log

PATH = "/stream/publish/events"
ONE = {"content-type": "application/cloudevents+json; charset=utf-8"}
MANY = {"content-type": "application/cloudevents-batch+json"}
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "42",
    "source": "/builds",
    "type": "pipai.workflow_progress",
    "subject": "w/ü",
    "time": "2025-01-01T00:00:00Z",
    "userid": "ada",
    "data": {"step": "s", "progress": 1},
}


def _headers(**changed: str) -> dict[str, str]:
    attributes = {name: value for name, value in EVENT.items() if name != "data"} | {"subject": "w/%C3%BC"} | changed
    return {"content-type": "application/json"} | {f"ce-{name}": value for name, value in attributes.items()}


@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_a_cloudevent_becomes_the_event_it_tells_of(client: httpx2.AsyncClient, log: Log, mode: str) -> None:
    async def send() -> dict[str, Any]:
        if mode == "structured":
            answer = await client.post(PATH, content=json.dumps(EVENT), headers=ONE)
        else:
            answer = await client.post(PATH, content=json.dumps(EVENT["data"]), headers=_headers())
        assert answer.status_code == 202, answer.text
        return answer.json()

    first, again = await send(), await send()

    assert again == {**first, "duplicate": True}
    [fields] = await log.events("workflow:progress")
    assert (first["topic"], first["event_id"], first["offset"]) == ("workflow:w/ü", "/builds 42", 1)
    assert (fields["type"], fields["topic"], fields["id"]) == ("workflow_progress", "workflow:w/ü", "/builds 42")
    assert (fields["user"], fields["run"], fields["time"]) == ("ada", "", "2025-01-01T00:00:00.000Z")
    assert json.loads(fields["data"]) == {"workflow_id": "w/ü", "step": "s", "progress": 1}


async def test_a_batch_is_answered_event_by_event(client: httpx2.AsyncClient, log: Log) -> None:
    events = [
        EVENT,
        {**EVENT, "id": "43", "data": {"step": "s", "progress": 101}},
        {**EVENT, "id": "44", "type": "com.example"},
        {**EVENT, "id": "45", "type": "pipai.notification", "subject": "bob", "data": {"title": "t", "message": "m"}},
        {**EVENT, "source": "/other"},
        EVENT,
    ]
    answer = await client.post(PATH, content=json.dumps(events), headers=MANY)

    assert answer.status_code == 200
    told = answer.json()
    assert told["counts"] == {"appended": 3, "duplicate": 1, "invalid": 2, "unavailable": 0}
    assert [one["status"] for one in told["outcomes"]] == [
        "appended",
        "invalid",
        "invalid",
        "appended",
        "appended",
        "duplicate",
    ]
    wheres = [one["error"]["errors"][0]["where"] for one in told["outcomes"] if one["status"] == "invalid"]
    assert wheres == ["body.1.data.progress", "body.2.type"]
    assert [fields["topic"] for fields in await log.events("notifications")] == ["user:bob"]


@pytest.mark.parametrize(
    ("status", "where", "content", "headers"),
    [
        (400, "body", "{", ONE),
        (422, "body.specversion", {**EVENT, "specversion": "0.3"}, ONE),
        (422, "body.type", {**EVENT, "type": "com.example"}, ONE),
        (422, "body.subject", {**EVENT, "subject": "a\nb"}, ONE),
        (422, "body.data.step", {**EVENT, "data": {"progress": 1}}, ONE),
        (422, "body.data.sted", {**EVENT, "data": {"step": "s", "progress": 1, "sted": 1}}, ONE),
        (422, "body", {**EVENT, "data": {"step": "s", "progress": 1, "event_id": "e"}}, ONE),
        (422, "body.data", {**EVENT, "data": None, "data_base64": "e30="}, ONE),
        (422, "body", [EVENT], ONE),
        (422, "body", EVENT, MANY),
        (422, "body.source", EVENT["data"], {k: v for k, v in _headers().items() if k != "ce-source"}),
        (422, "body.subject", EVENT["data"], _headers(subject="%00")),
        (415, "header.content-type", EVENT, {"content-type": "application/xml"}),
    ],
)
async def test_what_is_no_cloudevent_of_ours_is_told_where(
    client: httpx2.AsyncClient, log: Log, status: int, where: str, content: object, headers: dict[str, str]
) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    answer = await client.post(PATH, content=text, headers=headers)

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert where in [error["where"] for error in answer.json()["errors"]]
    assert await log.every_key() == {}


async def test_the_ways_to_send_are_described(client: httpx2.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()["paths"][PATH]["post"]["requestBody"]["content"]

    assert set(described) == {
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "application/json",
    }
