"""What cannot be imported is said by line, before anything is written."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.log.read import read_entries
from pipai_contracts.history import ExportHeader
from pipai_contracts.record import BEGINNING
from tests.admin.conftest import Admin
from tests.core.telling import step
from tests.projector.conftest import Deployment

HEADER = ExportHeader(topic="workflow:w").model_dump(mode="json")


def event(number: int, **changes: Any) -> dict[str, Any]:
    """The ``number``-th event of a workflow, as the API gives it."""
    told = {
        "event_id": f"e{number}",
        "stream": "workflow:progress",
        "stream_id": f"{1_700_000_000_000 + number}-0",
        "topic": "workflow:w",
        "offset": 40 + number,
        "time": "2025-01-01T00:00:00.000Z",
        "event": "workflow_progress",
        "v": 1,
        "data": {"workflow_id": "w", "step": "read", "progress": number},
        "user_id": None,
        "run_id": None,
        "parked": False,
    }
    return {**told, **changes}


@pytest.fixture
def case(tmp_path: Path) -> Any:
    """Writes lines into a file."""

    def _case(*lines: Any) -> str:
        path = tmp_path / "case.jsonl"
        path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
        return str(path)

    return _case


async def test_parked_events_are_left_out_and_counted(
    deployment: Deployment, admin: Admin, case: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = event(4, v=None, data=None, event_id=None, time=None)
    path = case(HEADER, event(1), event(2, parked=True), event(3), foreign)
    assert await admin("import", path) == 0
    assert "2 events imported, 2 left out" in capsys.readouterr().out
    async with deployment.projecting():
        assert await deployment.settled() == 1
    assert (await deployment.view("workflow", "w")).model_dump()["progress"] == 3


async def test_many_events_keep_their_ids_and_get_offsets_without_a_hole(
    any_deployment: Deployment, admin: Admin, case: Any
) -> None:
    deployment, partitions = any_deployment, any_deployment.keys.partitions
    events = [
        event(n, topic=f"workflow:{n % 7}", data={"workflow_id": str(n % 7), "step": "read", "progress": n % 100})
        for n in range(1000)
    ]
    assert await admin("import", case(HEADER, *events), partitions=partitions) == 0
    ids: list[str] = []
    for partition in range(partitions):
        source = deployment.source(partition=partition)
        entries = await read_entries(deployment.redis, source, after=BEGINNING, count=2000)
        assert [entry.offset for entry in entries] == list(range(1, len(entries) + 1))
        ids += [str(entry.stream_id) for entry in entries]
    assert sorted(ids) == sorted(told["stream_id"] for told in events)
    async with deployment.projecting():
        assert await deployment.settled() == 7


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "is no event"),
        (event(9, stream="planets"), "no source stream"),
        (event(9, topic="workflow:x"), "not of workflow:x"),
        (event(9, topic="planet:x"), "names no topic"),
        (event(9, stream="ai:progress"), "not of workflow:w in ai:progress"),
        (event(9, data={"workflow_id": "w", "step": "read", "progress": None}), "cannot be read"),
        (event(9, v=7), "newer build"),
        (event(0), "does not come after"),
        (event(1), "does not come after"),
        (event(9, stream_id="soon"), "stream_id"),
        (event(9, stream_id="0-0"), "stream_id"),
        ('{"a":' * 5000, "is no event"),
        (event(9, time="2025"), "cannot be read"),
        (event(9, surprise=1), "is no event"),
    ],
)
async def test_a_bad_line_is_named_and_nothing_is_written(
    deployment: Deployment, admin: Admin, case: Any, capsys: pytest.CaptureFixture[str], line: Any, why: str
) -> None:
    assert await admin("import", case(HEADER, event(1), line, event(20))) == 2
    told = capsys.readouterr().err
    assert told.startswith("line 3: ")
    assert why in told
    assert told.endswith("nothing was imported\n")
    assert not await deployment.redis.exists(deployment.source().key, deployment.keys.layout)


@pytest.mark.parametrize("first", [event(1), {**HEADER, "version": 2}, "", {"format": "other"}])
async def test_another_kind_of_file_is_refused(
    admin: Admin, case: Any, capsys: pytest.CaptureFixture[str], first: Any
) -> None:
    assert await admin("import", case(first, event(2))) == 2
    assert capsys.readouterr().err.startswith("line 1: is no header of an exported history of version 1")


async def test_a_file_that_is_not_there_is_one_line(admin: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    assert await admin("import", "nowhere.jsonl") == 2
    assert capsys.readouterr().err == "nowhere.jsonl cannot be read: No such file or directory\n"


async def test_a_log_with_newer_entries_is_left_alone(
    deployment: Deployment, admin: Admin, case: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    await deployment.publish(step(10))
    assert await admin("import", case(HEADER, event(1))) == 2
    assert "already goes up to" in capsys.readouterr().err
    assert await deployment.redis.xlen(deployment.source().key) == 1


async def test_a_file_is_imported_once(deployment: Deployment, admin: Admin, case: Any) -> None:
    path = case(HEADER, event(1), event(2))
    assert await admin("import", path) == 0
    assert await admin("import", path) == 2
    assert await deployment.redis.xlen(deployment.source().key) == 2
