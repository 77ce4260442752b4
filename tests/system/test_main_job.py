"""The main job, end to end: a PDF in, its analysis seen live, the same from every side, and still there later."""

import json
import subprocess
from pathlib import Path
from typing import Any, cast

import httpx2
import psutil
import pytest
from redis.asyncio import Redis

from tests.conftest import wait_until
from tests.system.running import System
from tests.worker.samples import make_pdf

pytestmark = pytest.mark.timeout(240)


async def test_a_pdf_is_analysed_before_the_viewers_eyes(tmp_path: Path) -> None:
    """Upload, curl, redis, views and health agree; after a crash of ``./run`` everything is still there."""
    system = System(tmp_path)
    async with system:
        async with httpx2.AsyncClient(base_url=system.address, timeout=20) as client:
            answer = await client.post(
                "/upload", files={"file": ("survey.pdf", make_pdf(12), "application/pdf")}, data={"user_id": "ada"}
            )
            assert answer.status_code == 202, answer.text
            uploaded = cast("dict[str, str]", answer.json())
            seen = _curl(f"{system.address}{uploaded['stream_url']}")
            _check_stream(seen)
            await _check_redis(_redis_url(system), seen, uploaded["workflow_id"])
            health = cast("dict[str, Any]", (await client.get("/stream/health")).json())
            assert health["services"] == {"redis": "healthy", "temporal": "healthy"}
            view = cast("dict[str, Any]", (await client.get(f"/views/workflow/{uploaded['workflow_id']}")).json())
            assert view["view"]["status"] == "completed"
            file = cast("dict[str, Any]", (await client.get(f"/views/file/{uploaded['file_id']}")).json())
            assert file["view"]["result"] == view["view"]["result"]
            user = cast("dict[str, Any]", (await client.get("/views/user/ada")).json())
            assert (user["view"]["counts"]["completed"], user["view"]["counts"]["active"]) == (2, 0)
        pids = [service.pid for service in system.state.services if service.pid is not None]
        system.kill()
        await wait_until(lambda: not any(map(psutil.pid_exists, pids)), 20, f"still running: {pids}")

    async with system, httpx2.AsyncClient(base_url=system.address, timeout=20) as client:
        again = cast("dict[str, Any]", (await client.get(f"/views/workflow/{uploaded['workflow_id']}")).json())
        assert again == view
        history = await client.get(f"/events/workflow/{uploaded['workflow_id']}", params={"limit": 1000})
        events = cast("dict[str, Any]", history.json())["events"]
        assert [event["pos"] for event in events] == list(range(1, len(events) + 1))


def _curl(url: str) -> list[dict[str, Any]]:
    """What ``curl -N`` shows of the stream until it ends by itself."""
    shown = subprocess.run(
        ["curl", "-sN", "--max-time", "90", url], capture_output=True, check=True, text=True, timeout=100
    ).stdout
    events: list[dict[str, Any]] = []
    for message in shown.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in message.splitlines() if not line.startswith(":"))
        if "event" in fields:
            events.append({"event": fields["event"], "id": fields.get("id"), "data": json.loads(fields["data"])})
    return events


def _redis_url(system: System) -> str:
    return next(service.address for service in system.state.services if service.name == "redis")


def _check_stream(seen: list[dict[str, Any]]) -> None:
    names = [event["event"] for event in seen]
    assert names[0] == "connected"
    assert names[-1] == "disconnected"
    progress = [event["data"] for event in seen if event["event"] == "workflow_progress"]
    percents = [data["progress"] for data in progress]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert progress[-1]["result"]["counts"]["pages"] == 12
    assert any(data.get("message") == "Page 12 of 12" for data in progress)
    assert {"ai_progress", "temporal_status"} <= set(names)
    positions = [int(event["id"].split(".")[1]) for event in seen[1:] if event["id"]]
    assert positions == list(range(positions[0], positions[0] + len(positions)))


async def _check_redis(redis_url: str, seen: list[dict[str, Any]], workflow_id: str) -> None:
    """``redis-cli XREAD STREAMS pip-ai:workflow:progress 0`` shows what the viewer saw, in readable fields."""
    async with Redis.from_url(redis_url, decode_responses=True, protocol=2) as redis:
        reply = cast("list[Any]", await redis.xread({"pip-ai:workflow:progress": "0"}))
    entries = [cast("dict[str, str]", fields) for _, fields in reply[0][1]]
    stored = [json.loads(fields["data"]) for fields in entries if fields["type"] == "workflow_progress"]
    assert {fields["topic"] for fields in entries} == {f"workflow:{workflow_id}"}
    assert {"id", "type", "v", "tenant", "topic", "offset", "user", "run", "time", "data"} == set(entries[0])
    live = [event["data"] for event in seen if event["event"] == "workflow_progress" and event["id"]]
    assert live
    assert [(data["step"], data["progress"]) for data in live] == [
        (data["step"], data["progress"]) for data in stored[-len(live) :]
    ]
