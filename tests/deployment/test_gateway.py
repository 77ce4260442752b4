"""The gateway passes on what it gets, as it comes."""

import asyncio
import json
import subprocess
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest

from core.runtime.ports import free_port
from pipai_contracts.batch import MAX_BATCH_BYTES
from tests.conftest import wait_until
from tests.deployment.conftest import Gateway, gateway_to, rewritten

pytestmark = pytest.mark.nginx

AWKWARD_IDS = ["a/b c?d=%e#f", "..//stream", "../../stream/publish/x", "größe ✓", "upload", "%2F", "a+b&c"]


async def test_an_event_arrives_while_the_stream_is_open(gateway: Gateway) -> None:
    """A gateway that buffers would keep it until kilobytes have gathered."""
    async with gateway.client.stream("GET", "/stream/workflow/w1") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.aiter_lines()
        assert await anext(line async for line in lines if line.startswith("event:")) == "event: connected"
        published = await gateway.client.post("/stream/publish/workflow/w1", json={"step": "read", "progress": 50})
        assert published.status_code == 202
        assert await anext(line async for line in lines if line.startswith("event:")) == "event: workflow_progress"
        assert '"progress":50' in await anext(line async for line in lines if line.startswith("data:"))


async def test_a_quiet_stream_is_kept_by_its_heartbeats(gateway: Gateway) -> None:
    async with gateway.client.stream("GET", "/stream/workflow/w1") as stream:
        assert await anext(line async for line in stream.aiter_lines() if line.startswith(":")) == ": heartbeat"


@pytest.mark.parametrize("awkward", AWKWARD_IDS)
async def test_an_id_arrives_as_it_was_sent(gateway: Gateway, awkward: str) -> None:
    """On its way in through ingest, and on its way out through the api."""
    encoded = quote(awkward, safe="")
    published = await gateway.client.post(f"/stream/publish/workflow/{encoded}", json={"step": "read", "progress": 1})
    assert published.json()["topic"] == f"workflow:{awkward}"

    async def view() -> httpx2.Response:
        return await gateway.client.get(f"/views/workflow/{encoded}")

    async def projected() -> bool:
        return (await view()).status_code == 200

    await wait_until(projected, message="the api does not find the id")
    assert (await view()).json()["id"] == awkward


async def test_uploads_reach_ingest_and_pages_the_api(gateway: Gateway) -> None:
    refused = await gateway.client.post("/upload", json={})
    assert (refused.status_code, refused.json()["type"]) == (415, "/problems/content-type")
    page = await gateway.client.get("/demo/streaming")
    assert (page.status_code, "html" in page.headers["content-type"]) == (200, True)


async def test_batches_reach_ingest_up_to_their_full_size(gateway: Gateway) -> None:
    """And beyond it ingest's own refusal comes back. The key of a request goes with it."""
    headers = {"content-type": "application/json", "idempotency-key": "k"}
    item = b'{"type": "workflow_progress", "workflow_id": "w", "step": "s", "progress": 1}'
    batch = b"[%b]" % b",".join([item] * 300)
    full = batch.ljust(MAX_BATCH_BYTES)

    async def send(body: bytes, kind: str = "batch") -> httpx2.Response:
        return await gateway.client.post(f"/stream/publish/{kind}", content=body, headers=headers)

    first, again, larger, other = [await send(body) for body in (full, full, full + b" ", batch)]
    assert (first.status_code, first.json()["counts"]["appended"]) == (200, 300)
    assert (again.status_code, again.json()["counts"]["duplicate"]) == (200, 300)
    assert (larger.status_code, larger.json()["type"]) == (413, "/problems/too-large")
    assert str(MAX_BATCH_BYTES) in larger.json()["detail"]
    assert (other.status_code, other.json()["type"]) == (422, "/problems/key-reused")

    headers["content-type"] = "application/cloudevents-batch+json"
    assert (await send(b"[]".ljust(MAX_BATCH_BYTES), "events")).status_code == 200


async def test_dead_letters_are_asked_of_ingest(gateway: Gateway) -> None:
    for path in ("", "?limit=1"):
        assert (await gateway.client.get(f"/stream/dead-letters{path}")).json() == {"letters": [], "next": None}
    unknown = await gateway.client.get("/stream/dead-letters/workflow%3Aprogress/1-0")
    assert unknown.json()["type"] == "/problems/unknown-letter"
    refused = await gateway.client.post("/stream/dead-letters/purge", json={})
    assert refused.json()["type"] == "/problems/invalid"


async def test_a_body_beyond_every_limit_is_refused_as_a_problem(gateway: Gateway) -> None:
    """By its length alone: nothing of it has to be sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    problem = json.loads(await reader.readuntil(b"}"))
    writer.close()
    await writer.wait_closed()
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"Content-Type: application/problem+json\r\n" in head
    assert problem["type"] == "/problems/too-large"


async def test_a_service_that_is_away_is_told_as_a_problem_to_try_again(tmp_path: Path) -> None:
    async with gateway_to(free_port(), free_port(), tmp_path) as gateway:
        for answer in (await gateway.client.get("/stream/health"), await gateway.client.post("/upload")):
            assert (answer.status_code, answer.json()["status"], answer.headers["retry-after"]) == (503, 503, "1")
            assert answer.headers["content-type"] == "application/problem+json"


def test_nginx_takes_the_configuration(tmp_path: Path) -> None:
    configuration = rewritten(tmp_path, 8000, 8001, 8002)
    told = subprocess.run(["nginx", "-e", "stderr", "-t", "-c", configuration], capture_output=True, check=False)
    assert told.returncode == 0, told.stderr
    assert b"[warn]" not in told.stderr
