"""An exported history is a system of its own."""

import json
from pathlib import Path
from typing import Any

import httpx2

from tests.admin.test_import import HEADER, event
from tests.conftest import wait_until
from tests.standalone.test_up import run
from tests.system.running import System

_EVENTS = 250
"""Redis trims feeds by the hundred."""


def _write(folder: Path, *lines: dict[str, Any]) -> Path:
    file = folder / "bug 7.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


async def test_a_case_is_at_page_view_and_history_and_nothing_else_is_touched(tmp_path: Path) -> None:
    events = [
        event(number, data={"workflow_id": "w", "step": "read", "progress": number % 30}) for number in range(_EVENTS)
    ]
    file = _write(tmp_path, HEADER, *events, event(_EVENTS, parked=True))
    others = {"REDIS_URL": "redis://127.0.0.1:1", "TEMPORAL_ADDRESS": "127.0.0.1:1", "STREAM_MAX_ENTRIES": "5"}
    system = System(tmp_path, "--import", str(file), **others)
    system.home = tmp_path / ".pipai" / "cases" / "bug 7"
    for _ in range(2):  # the second time it begins anew
        async with system, httpx2.AsyncClient(base_url=system.address, timeout=20) as client:
            assert f"{_EVENTS} events of workflow:w, 1 parked ones left out" in system.shown
            assert f"{system.address}/demo/streaming?workflow=w" in system.shown

            async def progressed(client: httpx2.AsyncClient = client) -> bool:
                answer = (await client.get("/views/workflow/w")).json()
                return answer["cursor"].endswith(f".{_EVENTS}") and answer["view"]["progress"] == (_EVENTS - 1) % 30

            await wait_until(progressed)
            found = (await client.get("/history/events", params={"limit": 1000})).json()["events"]
            assert [told["stream_id"] for told in found] == [told["stream_id"] for told in events]
            feed = (await client.get("/events/workflow/w", params={"limit": 1000})).json()["events"]
            assert len(feed) == _EVENTS
            published = await client.post("/stream/publish/workflow/w", json={"step": "more", "progress": 40})
            assert published.status_code == 202
    assert sorted(path.name for path in (tmp_path / ".pipai").iterdir()) == ["cases"]


def test_a_file_that_is_no_case_is_said_before_anything_is_started(tmp_path: Path) -> None:
    file = _write(tmp_path, HEADER, event(1, stream="planets"))
    result = run(tmp_path, "up", "--import", str(file))
    assert result.returncode == 2
    assert result.stderr == "line 2: there is no source stream 'planets'\nnothing was imported\n"
    assert not (tmp_path / ".pipai").exists()
