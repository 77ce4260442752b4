"""Events can be read for ever: in the form of every version that was ever written."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic_core import to_json

from pipai_contracts import upcast
from pipai_contracts.envelope import encode_data
from pipai_contracts.events import SCHEMA_VERSION, EventType, WorkflowProgress
from pipai_contracts.upcast import MAX_VERSION, UPCASTERS, NewerVersionError, read_event

RECORDED = Path(__file__).parent / "recorded"
VERSIONS = range(1, SCHEMA_VERSION + 1)


def _recorded(version: int) -> list[dict[str, Any]]:
    """Events as builds of that version wrote them. What is here is never changed, only added to."""
    return [json.loads(line) for line in (RECORDED / f"v{version}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_type_of_event_is_recorded_in_every_version(version: int) -> None:
    assert {event["type"] for event in _recorded(version)} == set(get_args(EventType))


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_version_wrote_can_be_read(version: int) -> None:
    for recorded in _recorded(version):
        event = read_event(recorded["type"], version, to_json(recorded["data"]))
        assert event.type == recorded["type"]


def test_what_this_version_wrote_reads_as_it_was() -> None:
    for recorded in _recorded(SCHEMA_VERSION):
        event = read_event(recorded["type"], SCHEMA_VERSION, to_json(recorded["data"]))
        written = json.loads(encode_data(event))
        given = {name: value for name, value in recorded["data"].items() if value is not None}
        assert written == {**({"level": "info"} if event.type == "notification" else {}), **given}


def test_every_older_version_has_its_upcaster() -> None:
    assert sorted(UPCASTERS) == list(range(1, SCHEMA_VERSION))


def test_older_data_is_brought_forward_a_version_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upcast, "SCHEMA_VERSION", 3)
    monkeypatch.setitem(UPCASTERS, 1, lambda _, data: {"workflow_id": data["flow"], "percent": data["percent"]})
    monkeypatch.setitem(
        UPCASTERS, 2, lambda _, data: {**_without(data, "percent"), "step": "s", "progress": data["percent"]}
    )

    event = read_event("workflow_progress", 1, b'{"flow": "w", "percent": 5}')

    assert event == WorkflowProgress(workflow_id="w", step="s", progress=5)


def _without(data: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != name}


def test_a_newer_version_is_told_from_one_that_cannot_be() -> None:
    with pytest.raises(NewerVersionError):
        read_event("workflow_progress", SCHEMA_VERSION + 1, b"{}")
    for version in (0, -1, MAX_VERSION + 1):
        with pytest.raises(ValueError, match="version"):
            read_event("workflow_progress", version, b"{}")


def test_a_type_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="new_kind"):
        read_event("new_kind", SCHEMA_VERSION, b"{}")
