"""What an event may carry, and that it arrives as it was sent."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from pydantic import ValidationError

from pipai_contracts.envelope import EventTooLargeError, encode_data
from pipai_contracts.events import MAX_DEPTH, MAX_EVENT_BYTES, AnyEvent, WorkflowProgress, any_event
from pipai_contracts.frames import wire_data
from tests.contracts.json_values import json_values, metadata, nested

WORKFLOW = {"workflow_id": "w", "step": "read", "progress": 10}


def _parse(**fields: Any) -> AnyEvent:
    return any_event.validate_json(json.dumps({"type": "workflow_progress", **WORKFLOW, **fields}))


@pytest.mark.parametrize("progress", [0, 100, 0.5, 99.99, 1e-9])
def test_progress_from_0_to_100_is_taken(progress: float) -> None:
    assert getattr(_parse(progress=progress), "progress") == progress  # noqa: B009 - the union has events without


@pytest.mark.parametrize("progress", [101, 100.0001, -1, -1e-9, float("nan"), float("inf"), True, "5", None])
def test_any_other_progress_is_refused(progress: object) -> None:
    with pytest.raises(ValidationError):
        _parse(progress=progress)
    with pytest.raises(ValidationError):
        WorkflowProgress.model_validate({**WORKFLOW, "progress": progress})


def test_whole_progress_stays_a_whole_number() -> None:
    assert b'"progress":50}' in encode_data(_parse(progress=50.0))


@pytest.mark.parametrize(
    "fields", [{"colour": "red"}, {"timestamp": "2025-01-01T00:00:00Z"}, {"step": ""}, {"step": 1}]
)
def test_fields_nobody_knows_and_empty_steps_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        _parse(**fields)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
@pytest.mark.parametrize("form", ['{{"x": {}}}', '{{"x": [1, {{"y": {}}}]}}'])
def test_numbers_that_json_cannot_carry_are_refused_in_metadata(number: str, form: str) -> None:
    text = json.dumps({"type": "workflow_progress", **WORKFLOW})[:-1] + f', "metadata": {form.format(number)}}}'

    with pytest.raises(ValidationError):
        any_event.validate_json(text)


@given(metadata)
@example({"big": 2**64 + 1, "bigger": -(10**40), "float": 1e22, "nested": {"": [[], {}, None, "\u2028\x7f\n"]}})
def test_metadata_reaches_the_wire_unchanged(sent: dict[str, Any]) -> None:
    stored = encode_data(_parse(metadata=sent))
    decoded = any_event.validate_python({**json.loads(stored), "type": "workflow_progress"})
    arrived = json.loads(wire_data(stored, timestamp="2025-01-01T00:00:00.000Z", run_id="r"))

    assert encode_data(decoded) == stored
    assert _exactly(arrived["metadata"]) == _exactly(sent)


@given(json_values.filter(lambda value: value is not None))
def test_a_result_reaches_the_wire_unchanged(sent: Any) -> None:
    arrived = json.loads(wire_data(encode_data(_parse(result=sent)), timestamp="t", run_id=None, late=True))

    assert _exactly(arrived["result"]) == _exactly(sent)
    assert arrived["late"] is True


def _exactly(value: Any) -> str:
    """Equal only when types are too: 1 is not 1.0, and not true."""
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("field", ["metadata", "result"])
def test_json_as_deep_as_allowed_is_taken_and_deeper_is_refused(field: str) -> None:
    """Views nest what events carry a few levels deeper, and JSON readers end at 200 levels."""
    _parse(**{field: {"x": nested(MAX_DEPTH - 1)}})
    with pytest.raises(ValidationError, match="nested"):
        _parse(**{field: {"x": nested(MAX_DEPTH)}})


def test_an_event_of_exactly_the_largest_size_is_taken_and_one_byte_more_is_not() -> None:
    empty = len(encode_data(WorkflowProgress(workflow_id="w", step="s", progress=1, message="")))
    fitting = "é" * ((MAX_EVENT_BYTES - empty) // 2) + "x" * ((MAX_EVENT_BYTES - empty) % 2)

    data = encode_data(WorkflowProgress(workflow_id="w", step="s", progress=1, message=fitting))

    assert len(data) == MAX_EVENT_BYTES
    with pytest.raises(EventTooLargeError, match=str(MAX_EVENT_BYTES + 1)):
        encode_data(WorkflowProgress(workflow_id="w", step="s", progress=1, message=fitting + "x"))


def test_text_that_utf8_cannot_write_is_refused() -> None:
    with pytest.raises(EventTooLargeError, match="cannot be written as JSON"):
        encode_data(WorkflowProgress(workflow_id="w", step="s", progress=1, metadata={"x": "\ud800"}))


MANY: dict[str, Any] = {
    "lists": [[]] * 10_000,
    "fields": {"a": {str(number): 1 for number in range(10_000)}},
    "numbers": [1] * 10_000,
}


@pytest.mark.parametrize("of", MANY)
def test_more_values_than_a_process_should_hold_are_refused(of: str) -> None:
    """86,000 empty lists fit into 256 KiB, and take a hundred times that in memory."""
    with pytest.raises(ValidationError, match="10000 values"):
        WorkflowProgress(workflow_id="w", step="s", progress=1, result=MANY[of])


def test_as_many_values_as_may_be_are_taken() -> None:
    numbers: Any = [1] * 9_999
    assert WorkflowProgress(workflow_id="w", step="s", progress=1, result=numbers).result == numbers
