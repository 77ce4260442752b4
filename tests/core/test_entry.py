"""Which stream entries are events."""

import json
from typing import Any

import pytest

from core.log.entry import Entry, decode
from core.log.errors import UndecodableEntryError
from core.log.keys import Keys
from pipai_contracts.frames import wire_data
from pipai_contracts.record import StreamId
from pipai_contracts.upcast import NewerVersionError

SOURCE = Keys().source("workflow:progress", 0)
FIELDS = {
    b"id": b"e1",
    b"type": b"workflow_progress",
    b"v": b"1",
    b"tenant": b"default",
    b"topic": b"workflow:w",
    b"offset": b"7",
    b"user": b"",
    b"run": b"r",
    b"time": b"2025-01-01T00:00:00.000Z",
    b"data": b'{"workflow_id":"w","step":"s","progress":1}',
}


def _entry(**changed: bytes | None) -> Entry:
    fields = {**FIELDS, **{name.encode(): value for name, value in changed.items()}}
    return Entry(StreamId(5, 1), {name: value for name, value in fields.items() if value is not None})


def test_an_entry_is_decoded_with_its_position() -> None:
    record = decode(SOURCE, _entry())

    assert (record.source, record.offset, str(record.stream_id)) == ("workflow:progress", 7, "5-1")
    assert (record.envelope.user_id, record.envelope.run_id, record.envelope.topic.name) == (None, "r", "workflow:w")


@pytest.mark.parametrize(
    "changed",
    [
        *({name.decode(): None} for name in FIELDS if name not in {b"topic", b"offset"}),
        {"v": b"10001"},
        {"v": b"0"},
        {"v": b"x"},
        {"v": b"9" * 5000},
        {"type": b"new_kind"},
        {"type": b"\xff"},
        {"id": b""},
        {"user": b"a\nb"},
        {"tenant": b"a:b"},
        {"time": b"yesterday"},
        {"data": b""},
        {"data": b"null"},
        {"data": b"[]"},
        {"data": b'"text"'},
        {"data": b"{}"},
        {"data": b'{"workflow_id":"w","step":"s","progress":NaN}'},
        {"data": b'{"workflow_id":"w","step":"s","progress":1,"colour":"red"}'},
        {"data": b"[" * 5000},
        {"data": b'{"workflow_id":"w","step":"s","progress":1,"metadata":{"x":' + b"[" * 150 + b"]" * 150 + b"}}"},
        {"data": b"\xff"},
        {"data": b'{"workflow_id":"w","step":"s","progress":1,"type":"notification"}'},
    ],
)
def test_an_entry_that_is_no_event_of_this_build_is_refused(changed: dict[str, bytes | None]) -> None:
    with pytest.raises(UndecodableEntryError, match="5-1"):
        decode(SOURCE, _entry(**changed))


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [("id", b"", "event_id"), ("user", b"a\nb", "user_id"), ("tenant", b"a:b", "tenant"), ("time", b"now", "time")],
)
def test_the_refusal_names_the_field(field: str, value: bytes, named: str) -> None:
    with pytest.raises(UndecodableEntryError, match=rf"5-1: {named}: "):
        decode(SOURCE, _entry(**{field: value}))


def test_an_event_of_a_newer_build_has_to_wait() -> None:
    with pytest.raises(NewerVersionError, match="version 2"):
        decode(SOURCE, _entry(v=b"2", data=b"in a form nobody knows yet"))


@pytest.mark.parametrize("offset", [None, b"", b"-1", b"x", b"\xff", "٣".encode(), b"9" * 17, b"9" * 5000])
def test_an_entry_without_a_plausible_offset_has_none(offset: bytes | None) -> None:
    assert _entry(offset=offset).offset == 0


@pytest.mark.parametrize(
    "data",
    [
        b'{\n  "workflow_id": "w",\n  "step": "s",\r\n  "progress": 1\n}\n',
        b' {"workflow_id":"w","step":"s","progress":1} ',
        b'\t{"workflow_id":"w","step":"s","progress":1}\n',
        b'{"workflow_id" : "w", "step" : "s", "progress":1.0}',
    ],
)
def test_json_written_by_another_hand_becomes_one_plain_line(data: bytes) -> None:
    """A line end in it would break out of the frame, and a viewer would read half an event."""
    record = decode(SOURCE, _entry(data=data))

    wire = wire_data(record.data, timestamp="t", run_id=None)
    pairs: list[tuple[str, Any]] = json.loads(wire, object_pairs_hook=list)
    assert pairs == [("workflow_id", "w"), ("step", "s"), ("progress", 1), ("timestamp", "t")]
    assert b"\n" not in wire
    assert b"\r" not in wire
