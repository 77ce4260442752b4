"""Publishing over HTTP: what is answered and what then stands in the log."""

import json
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from pipai_contracts.ids import Topic
from tests.ingest.conftest import Log, Serve

EVENTS: list[tuple[str, str, str, dict[str, Any]]] = [
    (
        "workflow/w-1",
        "workflow:progress",
        "workflow_progress",
        {
            "step": "processing",
            "progress": 50,
            "message": "Analyzing document content",
            "metadata": {"a": [1, None]},
        },
    ),
    (
        "analysis/f-1",
        "analysis:progress",
        "analysis_progress",
        {
            "step": "text_extraction",
            "progress": 25.5,
            "message": "Extracting text from PDF",
            "result": {"pages": 3},
        },
    ),
    ("ai/w-1", "ai:progress", "ai_progress", {"step": "summary", "delta": "Once", "model": "m"}),
    ("notification/u-1", "notifications", "notification", {"title": "Hi", "message": "", "level": "success"}),
]


@pytest.mark.parametrize(("path", "source", "kind", "body"), EVENTS, ids=[event[2] for event in EVENTS])
async def test_an_accepted_event_stands_in_its_stream(
    client: httpx2.AsyncClient, log: Log, path: str, source: str, kind: str, body: dict[str, Any]
) -> None:
    answer = await client.post(f"/stream/publish/{path}", json=body)

    assert answer.status_code == 202
    [fields] = await log.events(source)
    told = answer.json()
    assert told == {
        "event_id": fields["id"],
        "stream": f"{log.keys.prefix}:{source}",
        "stream_id": told["stream_id"],
        "topic": fields["topic"],
        "offset": 1,
        "duplicate": False,
    }
    assert fields["type"] == kind
    assert fields["tenant"] == "default"
    assert body.items() <= json.loads(fields["data"]).items()


async def test_a_repeated_event_id_is_answered_with_the_first_place(client: httpx2.AsyncClient, log: Log) -> None:
    body = {"step": "s", "progress": 1, "event_id": "same"}
    first = (await client.post("/stream/publish/workflow/w", json=body)).json()
    again = (await client.post("/stream/publish/workflow/w", json=body)).json()

    assert again == {**first, "duplicate": True}
    assert len(await log.events("workflow:progress")) == 1


async def test_events_without_an_id_are_never_taken_for_repeats(client: httpx2.AsyncClient, log: Log) -> None:
    body = {"step": "s", "progress": 1}
    for offset in (1, 2, 3):
        assert (await client.post("/stream/publish/workflow/w", json=body)).json()["offset"] == offset
    assert len({fields["id"] for fields in await log.events("workflow:progress")}) == 3


async def test_ids_of_producers_are_remembered_for_the_window_and_our_own_for_a_minute(serve: Serve, log: Log) -> None:
    topic = Topic("default", "workflow", "w")
    source = log.keys.source_of("workflow_progress", topic)
    async with serve(idempotency_window=7200) as client:
        for event_id, seconds in (("mine", 7200), (None, 60)):
            body = {"step": "s", "progress": 1, "event_id": event_id}
            told = (await client.post("/stream/publish/workflow/w", json=body)).json()
            assert seconds - 5 <= await log.redis.ttl(source.seen(topic, told["event_id"])) <= seconds


async def test_owner_run_and_time_are_kept_beside_the_event(client: httpx2.AsyncClient, log: Log) -> None:
    body = {
        "step": "s",
        "progress": 1,
        "user_id": "ada",
        "run_id": "r1",
        "timestamp": "2025-01-01T01:00:00+01:00",
    }
    await client.post("/stream/publish/workflow/w", json=body)

    [fields] = await log.events("workflow:progress")
    assert (fields["user"], fields["run"], fields["time"]) == ("ada", "r1", "2025-01-01T00:00:00.000Z")


@pytest.mark.parametrize("given", [("correlation",), ("causation",), ("correlation", "causation"), ()])
async def test_what_an_event_came_of_is_kept_behind_it_where_it_is_told(
    client: httpx2.AsyncClient, log: Log, given: tuple[str, ...]
) -> None:
    body = {"step": "s", "progress": 1, **{f"{name}_id": f"{name} 1" for name in given}}
    assert (await client.post("/stream/publish/workflow/w", json=body)).status_code == 202
    item = {"type": "workflow_progress", "workflow_id": "v", **body}
    assert (await client.post("/stream/publish/batch", json=[item])).status_code == 200

    events = await log.events("workflow:progress")
    assert len(events) == 2
    for fields in events:
        assert {name: fields[name] for name in fields if name.endswith("ation")} == {
            name: f"{name} 1" for name in given
        }


async def test_the_charset_may_be_named(client: httpx2.AsyncClient) -> None:
    answer = await client.post(
        "/stream/publish/workflow/w",
        content='{"step": "prüfen", "progress": 0}'.encode(),
        headers={"content-type": "application/json; charset=UTF-8"},
    )
    assert answer.status_code == 202


async def test_a_body_of_escapes_is_not_too_long_when_its_event_is_not(client: httpx2.AsyncClient, log: Log) -> None:
    message = "é" * 100_000
    answer = await client.post(
        "/stream/publish/workflow/w",
        content=json.dumps({"step": "s", "progress": 0, "message": message}),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 202
    [fields] = await log.events("workflow:progress")
    assert json.loads(fields["data"])["message"] == message


async def test_each_events_way_is_logged_without_its_content(serve: Serve) -> None:
    with capture_logs() as lines:
        async with serve() as client:
            body = {"step": "s", "progress": 1, "message": "secret", "event_id": "e1"}
            told = (await client.post("/stream/publish/workflow/w", json=body)).json()

    [line] = [line for line in lines if line["event"] == "stream appended"]
    assert line["log_level"] == "debug"
    assert told.items() >= {name: line[name] for name in ("stream", "stream_id", "topic", "event_id")}.items()
    assert "secret" not in str(lines)


async def test_the_bodies_are_described_without_dangling_references(client: httpx2.AsyncClient) -> None:
    description = (await client.get("/openapi.json")).json()

    body = description["paths"]["/stream/publish/workflow/{workflow_id}"]["post"]["requestBody"]
    assert set(body["content"]["application/json"]["schema"]["required"]) == {"step", "progress"}
    assert "$defs" not in json.dumps(description)
    upload = description["paths"]["/upload"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert upload["schema"]["required"] == ["file"]
