"""Bad publish requests: each is told what is wrong and where, and leaves nothing behind."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx2
import pytest
from prometheus_client import REGISTRY

from pipai_contracts.events import MAX_EVENT_BYTES
from services.ingest.bodies import MAX_BODY_BYTES
from tests.ingest.conftest import Log

GOOD = {"step": "s", "progress": 1}
JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Bad:
    """A request that is refused: with which status, and where it says the fault is."""

    name: str
    status: int
    where: str
    body: object = None
    raw: bytes | None = None
    path: str = "workflow/w"
    headers: dict[str, str] = field(default_factory=lambda: JSON)

    @property
    def content(self) -> bytes:
        return self.raw if self.raw is not None else json.dumps(self.body).encode()


BAD = [
    Bad("unknown field", 422, "body.sted", {**GOOD, "sted": "s"}),
    Bad("no step", 422, "body.step", {"progress": 1}),
    Bad("empty step", 422, "body.step", {**GOOD, "step": ""}),
    Bad("long step", 422, "body.step", {**GOOD, "step": "s" * 201}),
    Bad("no progress", 422, "body.progress", {"step": "s"}),
    Bad("progress 101", 422, "body.progress", {**GOOD, "progress": 101}),
    Bad("progress -1", 422, "body.progress", {**GOOD, "progress": -1}),
    Bad("progress in words", 422, "body.progress", {**GOOD, "progress": "50"}),
    Bad("progress true", 422, "body.progress", {**GOOD, "progress": True}),
    Bad("progress beyond all numbers", 422, "body.progress", raw=b'{"step":"s","progress":1e400}'),
    Bad("metadata beyond all numbers", 422, "body.metadata", raw=b'{"step":"s","progress":1,"metadata":{"a":1e400}}'),
    Bad("metadata as list", 422, "body.metadata", {**GOOD, "metadata": []}),
    Bad("time without offset", 422, "body.timestamp", {**GOOD, "timestamp": "2025-01-01T00:00:00"}),
    Bad("event id that cannot be shown", 422, "body.event_id", {**GOOD, "event_id": "a\nb"}),
    Bad("empty user", 422, "body.user_id", {**GOOD, "user_id": ""}),
    Bad("long run id", 422, "body.run_id", {**GOOD, "run_id": "r" * 201}),
    Bad("null as body", 422, "body", None),
    Bad("list as body", 422, "body", [GOOD]),
    Bad("AI progress 101", 422, "body.progress", {"step": "s", "progress": 101}, path="ai/w"),
    Bad("error of an AI step", 422, "body.error", {"step": "s", "error": "e"}, path="ai/w"),
    Bad("unknown level", 422, "body.level", {"title": "t", "message": "m", "level": "loud"}, path="notification/u"),
    Bad("no title", 422, "body.title", {"message": "m"}, path="notification/u"),
    Bad("analysis without step", 422, "body.step", {"progress": 1}, path="analysis/f"),
    Bad("id that cannot be shown", 422, "path.workflow_id", GOOD, path="workflow/a%0Ab"),
    Bad("id that is no UTF-8", 422, "path.workflow_id", GOOD, path="workflow/%FF"),
    Bad("long id", 422, "path.workflow_id", GOOD, path="workflow/" + "w" * 201),
    Bad("NaN", 400, "body", raw=b'{"step":"s","progress":NaN}'),
    Bad("no JSON", 400, "body", raw=b"{step: s}"),
    Bad("half JSON", 400, "body", raw=b'{"step":"s",'),
    Bad("no body", 400, "body", raw=b""),
    Bad("no UTF-8", 400, "body", raw=b'{"step":"\xff","progress":1}'),
    Bad("deep JSON", 400, "body", raw=b'{"step":"s","progress":1,"result":' + b"[" * 9999 + b"]" * 9999 + b"}"),
    Bad("large event", 413, "body", {**GOOD, "message": "x" * MAX_EVENT_BYTES}),
    Bad("large body", 413, "body", raw=b" " * (MAX_BODY_BYTES + 1)),
    Bad("no content type", 415, "header.content-type", GOOD, headers={}),
    Bad("a form", 415, "header.content-type", GOOD, headers={"content-type": "application/x-www-form-urlencoded"}),
    Bad("another JSON", 415, "header.content-type", GOOD, headers={"content-type": "application/jsonlines"}),
    Bad(
        "another charset",
        415,
        "header.content-type",
        GOOD,
        headers={"content-type": "application/json; charset=latin-1"},
    ),
]


@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
async def test_a_bad_request_is_told_what_is_wrong_and_stores_nothing(
    client: httpx2.AsyncClient, log: Log, bad: Bad
) -> None:
    before = await log.every_key()
    answer = await client.post(f"/stream/publish/{bad.path}", content=bad.content, headers=bad.headers)

    assert answer.status_code == bad.status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == bad.status
    assert problem["type"].startswith("/problems/")
    assert problem["title"]
    assert bad.where in [error["where"] for error in problem["errors"]]
    assert bad.where in problem["detail"] or bad.status == 415
    assert await log.every_key() == before


async def test_bad_json_is_located_by_line_and_column(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/stream/publish/workflow/w", content=b'{"step": "s",\n "progress": }', headers=JSON)
    assert "line 2 column 14" in answer.json()["detail"]


async def test_a_body_of_unknown_length_is_not_read_to_its_end(client: httpx2.AsyncClient, log: Log) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * (MAX_BODY_BYTES // 10)

    answer = await client.post("/stream/publish/workflow/w", content=endless(), headers=JSON)
    assert answer.status_code == 413
    assert await log.every_key() == {}


async def test_a_wrong_method_or_path_is_a_problem_too(client: httpx2.AsyncClient) -> None:
    for answer, status in (
        (await client.get("/stream/publish/workflow/w"), 405),
        (await client.post("/stream/publish/workflow/"), 404),
        (await client.post("/stream/publish/nothing/w", json=GOOD), 404),
    ):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


async def test_refusals_are_counted_by_reason(client: httpx2.AsyncClient) -> None:
    def counted(reason: str) -> float:
        return REGISTRY.get_sample_value("pipai_rejected_requests_total", {"reason": reason}) or 0

    before = {reason: counted(reason) for reason in ("invalid", "bad-body")}
    await client.post("/stream/publish/workflow/a%0Ab", json=GOOD)
    await client.post("/stream/publish/workflow/w", json={})
    await client.post("/stream/publish/workflow/w", content=b"{", headers=JSON)

    assert counted("invalid") == before["invalid"] + 2
    assert counted("bad-body") == before["bad-body"] + 1
