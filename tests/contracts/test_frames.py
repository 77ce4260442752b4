"""The bytes of a frame, as a real reader of Server-Sent Events takes them."""

import json
from typing import Any

import httpx2
import pytest
from hypothesis import given

from pipai_contracts.frames import (
    Connected,
    Disconnected,
    Reset,
    Shaping,
    StreamError,
    encode_data,
    encode_frame,
    wire_data,
)
from pipai_contracts.views import WorkflowView
from tests.contracts.json_values import metadata

NOW = "2025-01-01T00:00:00.000Z"


def _read(stream: bytes) -> list[httpx2.ServerSentEvent]:
    request = httpx2.Request("GET", "http://localhost/stream")
    response = httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream, request=request)
    return list(httpx2.EventSource(response))


def test_frames_are_read_back_with_name_id_retry_and_data() -> None:
    first = encode_frame("workflow_progress", b'{"progress":50}', "3f2a91bc.17", 3000)
    second = encode_frame("connected", b"{}")

    events = _read(first + b": heartbeat\n" + second)

    assert [(event.event, event.data) for event in events] == [
        ("workflow_progress", '{"progress":50}'),
        ("connected", "{}"),
    ]
    assert (events[0].id, events[0].retry) == ("3f2a91bc.17", 3000)


@given(metadata)
def test_nothing_in_the_data_can_begin_another_field(sent: dict[str, Any]) -> None:
    data = wire_data(json.dumps({"metadata": sent}, ensure_ascii=False).encode(), timestamp=NOW, run_id=None)

    (event,) = _read(encode_frame("workflow_progress", data))

    assert json.loads(event.data) == {"metadata": sent, "timestamp": NOW}


@pytest.mark.parametrize("bad", ["a\nb", "a\rdata: x", "a\0"])
def test_names_and_ids_that_would_break_out_of_their_line_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="line end"):
        encode_frame(bad, b"{}")
    with pytest.raises(ValueError, match="line end"):
        encode_frame("event", b"{}", bad)


def test_a_run_id_with_quotes_is_escaped_on_the_wire() -> None:
    data = wire_data(b'{"step":"s"}', timestamp=NOW, run_id='"},{\\')

    assert json.loads(data) == {"step": "s", "run_id": '"},{\\', "timestamp": NOW}


def test_control_events_leave_out_what_nobody_set_but_always_tell_the_view() -> None:
    connected = Connected(
        timestamp=NOW,
        kind="workflow",
        id="w",
        cursor="0",
        resumed=False,
        view=None,
        heartbeat=15,
        retry=3000,
        attempts=5,
    )

    assert json.loads(encode_data(connected))["view"] is None
    assert json.loads(encode_data(connected))["shaping"] == {}
    assert json.loads(encode_data(Disconnected(timestamp=NOW, reason="ended", reconnect=False))) == {
        "timestamp": NOW,
        "reason": "ended",
        "reconnect": False,
    }


def test_shaping_tells_only_what_was_asked() -> None:
    asked = Shaping(throttle_ms=0, types=("notification",))
    connected = Connected(
        timestamp=NOW,
        kind="user",
        id="u",
        cursor="0",
        resumed=False,
        heartbeat=15,
        retry=3000,
        attempts=5,
        shaping=asked,
    )

    assert json.loads(encode_data(connected))["shaping"] == {"throttle_ms": 0, "types": ["notification"]}


def test_an_error_always_has_data_so_that_clients_can_tell_it_from_a_broken_connection() -> None:
    data = encode_data(StreamError(timestamp=NOW, code="degraded", message="Redis is away", retryable=True))

    assert set(json.loads(data)) == {"code", "message", "retryable", "timestamp"}


def test_a_reset_carries_the_view_to_go_on_from() -> None:
    data = encode_data(Reset(timestamp=NOW, reason="lost", cursor="3f2a91bc.2", view=WorkflowView(id="w")))

    assert json.loads(data)["view"]["id"] == "w"
