"""How a topic was, what changed, and watching it once more, from a terminal."""

import json

import pytest

from pipai.past import messages_in
from tests.api.conftest import Producer
from tests.client.conftest import Pipai, answering


async def test_a_view_is_shown_as_json(pipai: Pipai, producer: Producer) -> None:
    await producer.progress("my workflow", 10)
    said = await pipai("view", "workflow:my workflow")
    assert json.loads(said.out)["view"]["progress"] == 10


async def test_a_moment_is_asked_for(pipai: Pipai) -> None:
    async with answering("application/json", "{}") as (url, asked):
        await pipai("view", "workflow:w", "--at", "2025-01-01T00:00:00Z", "--url", url)
    assert asked == ["/views/workflow/w?at=2025-01-01T00%3A00%3A00Z"]


async def test_a_diff_names_each_change_and_its_event(pipai: Pipai) -> None:
    by = {"pos": 4, "event_id": "e", "time": "2025-01-01T00:00:00.000Z", "event": "workflow_progress"}
    told = {"changes": [{"path": "/progress", "before": 10, "after": 20, "by": by}], "events": 1}
    async with answering("application/json", json.dumps(told)) as (url, asked):
        said = await pipai("diff", "workflow:w", "--from", "1", "--to", "2", "--url", url)
        raw = await pipai("diff", "workflow:w", "--from", "1", "--to", "2", "--json", "--url", url)
    assert said.out == "/progress: 10 → 20  by event 4: 2025-01-01T00:00:00.000Z  workflow_progress  e\n"
    assert asked[0] == "/views/workflow/w/diff?from=1&to=2"
    assert json.loads(raw.out) == told


async def test_a_replay_is_a_line_for_each_message(pipai: Pipai) -> None:
    connected = ': heartbeat\n\nid: a.1\nevent: connected\ndata: {"replay":true}\n\n'
    stream = connected + 'event: disconnected\ndata: {"reason":"ended","reconnect":false}\n\n'
    async with answering("text/event-stream", stream) as (url, asked):
        said = await pipai("replay", "user:a/b", "--speed", "max", "--url", url)
    assert asked == ["/replay/user/a%2Fb?speed=max"]
    assert [json.loads(line) for line in said.out.splitlines()] == [
        {"id": "a.1", "event": "connected", "data": {"replay": True}},
        {"id": None, "event": "disconnected", "data": {"reason": "ended", "reconnect": False}},
    ]


async def test_a_replay_that_is_told_to_come_back_goes_on_behind_its_last_event(pipai: Pipai) -> None:
    event = "id: a.3\nevent: notification\ndata: {}\n\n"
    cut = event + 'event: disconnected\ndata: {"reason":"lifetime","reconnect":true}\n\n'
    end = 'event: disconnected\ndata: {"reason":"ended","reconnect":false}\n\n'
    async with answering("text/event-stream", cut, end) as (url, asked):
        said = await pipai("replay", "user:a", "--from", "2", "--speed", "4", "--url", url)
    assert asked == ["/replay/user/a?from=2&speed=4", "/replay/user/a?from=2&speed=4&cursor=a.3"]
    assert [json.loads(line)["event"] for line in said.out.splitlines()] == [
        "notification",
        "disconnected",
        "disconnected",
    ]
    assert said.code == 0


@pytest.mark.parametrize("end", ["", 'event: error\ndata: {"code":"degraded"}\n\n'])
async def test_a_replay_that_broke_off_is_no_success(pipai: Pipai, end: str) -> None:
    async with answering("text/event-stream", f"event: connected\ndata: {{}}\n\n{end}") as (url, _):
        said = await pipai("replay", "user:a", "--url", url)
    assert said.code == 2
    assert said.err == "the replay broke off before its end\n"


def test_a_message_that_was_cut_off_is_none() -> None:
    assert list(messages_in(["data: 1", "data: 2", "", "data: cut"])) == [
        {"id": None, "event": "message", "data": "1\n2"}
    ]
