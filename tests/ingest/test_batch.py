"""Many events in one request: each is taken or refused by itself."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx2
import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from core.log.append import Appender
from core.log.errors import LogUnavailableError
from core.log.keys import Keys, Source
from core.log.requests import Requests
from pipai_contracts.batch import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, BatchAnswer, Item
from pipai_contracts.events import MAX_EVENT_BYTES
from pipai_contracts.sealed import Sealed
from services.ingest.backlog import Backlog
from services.ingest.batch import SLICE, append_all
from services.ingest.items import read_item
from services.ingest.pipeline import Answer
from services.ingest.publisher import Publisher
from tests.conftest import wait_until
from tests.ingest.conftest import Fields, Log, Serve

PATH = "/stream/publish/batch"
JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}

WORKFLOW = {"type": "workflow_progress", "workflow_id": "w", "step": "s", "progress": 1}
ONE_OF_EACH: list[dict[str, Any]] = [
    {**WORKFLOW, "user_id": "ada", "run_id": "r", "timestamp": "2025-01-01T00:00:00Z"},
    {"type": "analysis_progress", "file_id": "f", "step": "s", "progress": 2},
    {"type": "ai_progress", "workflow_id": "w", "step": "s", "delta": "d"},
    {"type": "notification", "user_id": "ada", "title": "t", "message": "m"},
]


def _numbered(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{**WORKFLOW, "step": f"step {number}", **fields} for number in range(count)]


def _steps(entries: list[Fields]) -> list[str]:
    return [json.loads(fields["data"])["step"] for fields in entries]


async def _send(client: httpx2.AsyncClient, events: list[Any], **headers: str) -> BatchAnswer:
    answer = await client.post(PATH, json=events, headers=headers)
    assert answer.status_code == 200, answer.text
    return BatchAnswer.model_validate(answer.json())


def _lines(events: list[Any]) -> bytes:
    return "\n".join(json.dumps(event) for event in events).encode()


@pytest.mark.parametrize("form", ["array", "lines"])
async def test_each_event_stands_where_its_endpoint_would_put_it(
    client: httpx2.AsyncClient, log: Log, form: str
) -> None:
    if form == "array":
        answer = await client.post(PATH, content=json.dumps(ONE_OF_EACH), headers=JSON)
    else:
        answer = await client.post(PATH, content=_lines(ONE_OF_EACH) + b"\n\n", headers=NDJSON)

    told = answer.json()
    assert told["counts"] == {"appended": 4, "duplicate": 0, "invalid": 0, "unavailable": 0}
    assert [one["topic"] for one in told["outcomes"]] == ["workflow:w", "file:f", "workflow:w", "user:ada"]
    for source, sent, outcome in zip(
        ("workflow:progress", "analysis:progress", "ai:progress", "notifications"),
        ONE_OF_EACH,
        told["outcomes"],
        strict=True,
    ):
        [fields] = await log.events(source)
        assert outcome == {
            "status": "appended",
            "event_id": fields["id"],
            "stream": f"{log.keys.prefix}:{source}",
            "stream_id": outcome["stream_id"],
            "topic": fields["topic"],
            "offset": 1,
            "duplicate": False,
        }
        assert fields["type"] == sent["type"]
    [fields] = await log.events("workflow:progress")
    assert (fields["user"], fields["run"], fields["time"]) == ("ada", "r", "2025-01-01T00:00:00.000Z")
    assert json.loads(fields["data"]) == {"workflow_id": "w", "step": "s", "progress": 1}
    [fields] = await log.events("notifications")
    assert fields["user"] == ""


async def test_more_events_than_one_call_takes_keep_their_order(client: httpx2.AsyncClient, log: Log) -> None:
    count = 2 * SLICE + 50
    answer = await _send(client, _numbered(count))

    assert answer.counts.appended == count
    assert [getattr(one, "offset", None) for one in answer.outcomes] == list(range(1, count + 1))
    assert _steps(await log.events("workflow:progress")) == [f"step {number}" for number in range(count)]


async def test_a_bad_event_keeps_out_itself_alone(client: httpx2.AsyncClient, log: Log) -> None:
    def rejected() -> float:
        return REGISTRY.get_sample_value("pipai_rejected_events_total", {"reason": "invalid"}) or 0

    before = rejected()
    bad: list[tuple[Any, str]] = [
        ({**WORKFLOW, "progress": 101}, "body.1.progress"),
        ({**WORKFLOW, "type": "temporal_status"}, "body.2.type"),
        ({**WORKFLOW, "type": ["ai_progress"]}, "body.3.type"),
        ({**WORKFLOW, "workflow_id": "a\nb"}, "body.4.workflow_id"),
        ({"type": "notification", "title": "t", "message": "m"}, "body.5.user_id"),
        ({**WORKFLOW, "file_id": "f"}, "body.6.file_id"),
        ({**WORKFLOW, "message": "x" * MAX_EVENT_BYTES}, "body.7"),
        ("text", "body.8"),
        (None, "body.9"),
    ]
    answer = await _send(client, [WORKFLOW, *(event for event, _ in bad), {**WORKFLOW, "step": "last"}])

    assert answer.counts.model_dump() == {"appended": 2, "duplicate": 0, "invalid": len(bad), "unavailable": 0}
    refused = [one.error for one in answer.outcomes if one.status == "invalid"]
    assert [problem.errors[0].where for problem in refused] == [where for _, where in bad]
    assert all(where in problem.detail for problem, (_, where) in zip(refused, bad, strict=True))
    assert _steps(await log.events("workflow:progress")) == ["s", "last"]
    assert rejected() == before + len(bad) - 1


async def test_a_line_that_is_no_json_is_that_lines_fault(client: httpx2.AsyncClient, log: Log) -> None:
    lines = [json.dumps(WORKFLOW).encode(), b'{"type": ', b'{"type": "\xff"}', json.dumps(WORKFLOW).encode()]
    answer = (await client.post(PATH, content=b"\r\n".join(lines), headers=NDJSON)).json()

    assert [one["status"] for one in answer["outcomes"]] == ["appended", "invalid", "invalid", "appended"]
    assert answer["outcomes"][1]["error"]["type"] == "/problems/bad-body"
    assert "body.1" in answer["outcomes"][1]["error"]["detail"]
    assert len(await log.events("workflow:progress")) == 2


@pytest.mark.parametrize(
    ("status", "content", "headers"),
    [
        (400, b'[{"type": "notification"}', JSON),
        (400, b"", JSON),
        (422, b"{}", JSON),
        (413, json.dumps([0] * (MAX_BATCH_EVENTS + 1)).encode(), JSON),
        (413, b"0\n" * (MAX_BATCH_EVENTS + 1), NDJSON),
        (413, b" " * (MAX_BATCH_BYTES + 1), JSON),
        (415, b"[]", {"content-type": "text/plain"}),
        (415, b"[]", {"content-type": "application/json; charset=latin-1"}),
        (422, b"[]", {**JSON, "idempotency-key": "k" * 196}),
        (422, b"[]", {**JSON, "idempotency-key": ""}),
    ],
    ids=["half", "empty", "object", "many", "many lines", "large", "type", "charset", "long key", "empty key"],
)
async def test_a_request_that_is_no_batch_is_refused_whole(
    client: httpx2.AsyncClient, log: Log, status: int, content: bytes, headers: dict[str, str]
) -> None:
    answer = await client.post(PATH, content=content, headers=headers)

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert await log.every_key() == {}


async def test_nothing_to_append_is_no_fault(client: httpx2.AsyncClient) -> None:
    assert (await _send(client, [])).outcomes == []
    assert (await client.post(PATH, content=b"\n \n", headers=NDJSON)).json()["outcomes"] == []


async def test_the_most_events_at_once_are_taken(client: httpx2.AsyncClient, log: Log) -> None:
    answer = await _send(client, [WORKFLOW] * MAX_BATCH_EVENTS)

    assert answer.counts.appended == MAX_BATCH_EVENTS
    assert len(await log.events("workflow:progress")) == MAX_BATCH_EVENTS


async def test_a_repeated_batch_gets_the_first_places(client: httpx2.AsyncClient, log: Log) -> None:
    events = [WORKFLOW, {**WORKFLOW, "event_id": "mine"}, {**WORKFLOW, "step": ""}, WORKFLOW]
    first, again = [await _send(client, events, **{"idempotency-key": "upload 7"}) for _ in range(2)]

    assert [fields["id"] for fields in await log.events("workflow:progress")] == ["upload 7:0", "mine", "upload 7:3"]
    assert again.counts.model_dump() == {"appended": 0, "duplicate": 3, "invalid": 1, "unavailable": 0}
    assert [getattr(one, "stream_id", None) for one in first.outcomes] == [
        getattr(one, "stream_id", None) for one in again.outcomes
    ]


async def test_single_events_are_not_held_up_by_a_batch(client: httpx2.AsyncClient) -> None:
    """They take turns: between two slices of a batch whatever came meanwhile leaves."""
    batch = asyncio.create_task(_send(client, [WORKFLOW] * MAX_BATCH_EVENTS))
    offsets: list[int] = []
    while not batch.done():
        answer = await client.post("/stream/publish/workflow/v", json={"step": "s", "progress": 1})
        offsets.append(answer.json()["offset"])
    await batch

    assert len([offset for offset in offsets if offset < MAX_BATCH_EVENTS]) > 1


async def test_what_the_batches_of_a_moment_hold_is_bounded(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    """And free again when they were refused, or their senders went away."""
    monkeypatch.setattr("services.ingest.batch.ROOM", 2000)

    async def half() -> AsyncIterator[bytes]:
        yield b"[" + b" " * 1000
        raise ConnectionAbortedError

    async with serve() as client:
        for _ in range(3):
            with pytest.raises(ConnectionAbortedError):
                await client.post(PATH, content=half(), headers=JSON)
            busy = await client.post(PATH, content=_lines([[WORKFLOW]]) + b" " * 2000, headers=JSON)
            assert (busy.status_code, busy.json()["type"]) == (503, "/problems/busy")
            assert busy.headers["retry-after"] == "1"
        assert await log.every_key() == {}

        async def taken() -> bool:
            return (await client.post(PATH, content=b"[]" + b" " * 1900, headers=JSON)).status_code == 200

        await wait_until(taken)


class _Appender(Appender):
    """Counts its calls; each waits until it is let go, and the one of this number fails."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        super().__init__(redis, keys, idempotency_window=60, owner_ttl=60)
        self.calls: list[int] = []
        self.go = asyncio.Event()
        self.fails = 0

    async def append_to(self, source: Source, events: Sequence[Sealed]) -> list[Answer]:
        self.calls.append(len(events))
        await self.go.wait()
        if len(self.calls) == self.fails:
            raise LogUnavailableError("away")
        return await super().append_to(source, events)


@pytest.fixture
async def appender(log: Log) -> _Appender:
    return _Appender(log.redis, log.keys)


@pytest.fixture
async def publisher(appender: _Appender, log: Log) -> AsyncIterator[Publisher]:
    requests = Requests(log.redis, log.keys, idempotency_window=60)
    publisher = Publisher(log.redis, appender, Backlog(log.redis, log.keys, limit=1_000_000), requests)
    yield publisher
    await publisher.close()


async def test_events_behind_one_that_could_not_be_stored_do_not_overtake_it(
    appender: _Appender, publisher: Publisher, log: Log
) -> None:
    """Neither those that wait for Redis already, nor those that are still checked."""
    appender.fails = 2
    appender.go.set()
    answer = await append_all(publisher, _numbered(6 * SLICE), read_item)

    told = BatchAnswer.model_validate_json(bytes(answer.body))
    assert appender.calls == [SLICE, SLICE]
    assert [one.status for one in told.outcomes] == ["appended"] * SLICE + ["unavailable"] * 5 * SLICE
    assert (told.counts.appended, told.counts.unavailable) == (SLICE, 5 * SLICE)
    assert len(await log.events("workflow:progress")) == SLICE


async def test_while_redis_has_a_slice_the_next_waits_and_another_is_checked(
    appender: _Appender, publisher: Publisher
) -> None:
    """So that Redis never waits for ingest. Not more: others would wait behind them, and all are held in memory."""
    read: list[object] = []

    def reading(value: object, where: str) -> Item:
        read.append(value)
        return read_item(value, where)

    batch = asyncio.create_task(append_all(publisher, _numbered(6 * SLICE), reading))
    await wait_until(lambda: len(read) == 3 * SLICE)
    for _ in range(100):
        await asyncio.sleep(0)
    assert (appender.calls, len(read)) == ([SLICE], 3 * SLICE)

    appender.go.set()
    await batch
    assert appender.calls == [SLICE] * 6


async def test_others_have_their_turns_while_a_batch_is_checked(appender: _Appender, publisher: Publisher) -> None:
    """What Redis answered among them: it would wait for the next call."""
    read: list[object] = []

    def slowly(value: object, where: str) -> Item:
        read.append(value)
        until = time.perf_counter() + 0.0006
        while time.perf_counter() < until:
            pass
        return read_item(value, where)

    turns = 0
    appender.go.set()
    batch = asyncio.create_task(append_all(publisher, _numbered(SLICE), slowly))
    while len(read) < SLICE:
        turns += 1
        await asyncio.sleep(0)
    await batch

    assert turns > SLICE / 3
