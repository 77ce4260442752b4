"""A case is exported, and is the same case in another deployment."""

import asyncio
import json
from pathlib import Path

import pytest

from core.log.exported import survey
from core.log.keys import Keys
from core.log.read import read_entries
from core.views.folds import render
from pipai_contracts.events import AiProgress, Notification
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING
from services.admin.main import main as admin
from tests.api.conftest import Producer, producing, projecting
from tests.client.conftest import Pipai
from tests.conftest import wait_until


async def test_the_first_line_says_what_the_file_is(pipai: Pipai, producer: Producer) -> None:
    await producer.progress("w", 10, 20, message="m")
    arguments = ("--from", "2025-01-01T00:00:00+02:00", "--redact", "data.message", "--redact", "data.typo")
    said = await pipai("history", "export", "workflow:w", *arguments)
    header, *events = [json.loads(line) for line in said.out.splitlines()]
    assert header == {
        "format": "pipai-history",
        "version": 1,
        "topic": "workflow:w",
        "from": "2024-12-31T22:00:00.000Z",
        "to": None,
        "redacted": ["data.message", "data.typo"],
    }
    assert [event["data"]["message"] for event in events] == ["[redacted]", "[redacted]"]
    assert said.err == "--redact data.typo: no event has that\n2 events of workflow:w\n"


async def test_an_imported_case_has_the_same_view_ids_and_history(
    pipai: Pipai, producer: Producer, redis_url: str, other_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await producer.progress("other", 1)
    await producer.progress("w", 10, 33.3, user_id="ada", run_id="r", metadata={"größe": [1, 2.5, None]})
    await producer.publish(AiProgress(workflow_id="w", step="think", delta="hm"), run_id="r")
    await wait_until(lambda: _reached(producer, 3))
    await producer.progress("w", 100, result={"ok": True}, run_id="r")
    said = await pipai("history", "export", "workflow:w")
    case = tmp_path / "case.jsonl"
    case.write_text(said.out)

    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("KEY_PREFIX", other_prefix)
    assert await asyncio.to_thread(admin, ["import", str(case)]) == 0

    topic = Topic("default", "workflow", "w")
    before = (await producer.store.load([topic]))[topic]
    async with projecting(redis_url, other_prefix), producing(redis_url, other_prefix) as other:
        await wait_until(lambda: _reached(other, 4))
        after = (await other.store.load([topic]))[topic]
        assert render(after.state) == render(before.state)
        assert (after.heard, after.first, after.pos) == (before.heard, before.first, before.pos)
        source = Keys(other_prefix).source("workflow:progress", 0)
        entries = await read_entries(other.redis, source, after=BEGINNING, count=9)
        assert [entry.offset for entry in entries] == [1, 2, 3]
        assert [entry.fields[b"user"] for entry in entries] == [b"ada"] * 3
        await other.progress("w", 5, run_id="again")  # of the owner the log remembers
        entries = await read_entries(other.redis, source, after=BEGINNING, count=9)
        assert [entry.fields[b"user"] for entry in entries] == [b"ada"] * 4
        assert entries[-1].offset == 4


async def _reached(producer: Producer, pos: int) -> bool:
    return await producer.pos("workflow", "w") == pos


async def test_a_user_is_exported_with_all_that_is_its_own(
    pipai: Pipai, producer: Producer, tmp_path: Path, key_prefix: str
) -> None:
    await producer.progress("w", 10, user_id="ada")
    await producer.publish(Notification(user_id="ada", title="n", message="m"))
    said = await pipai("history", "export", "user:ada", "--redact", "user_id")
    assert '"ada"' not in said.out
    case = tmp_path / "case.jsonl"
    case.write_text(said.out)
    found = survey(case, Keys(key_prefix))
    assert (found.events, found.faults) == (2, [])
