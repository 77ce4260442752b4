"""What of a CloudEvent becomes what of an event."""

from typing import Any

import pytest
from pydantic import ValidationError

from pipai_contracts.cloudevents import CloudEvent
from pipai_contracts.ids import check_id

EVENT = {
    "specversion": "1.0",
    "id": "42",
    "source": "/builds",
    "type": "pipai.workflow_progress",
    "subject": "w",
    "data": {"step": "s", "progress": 1},
}


def _item(**attributes: Any) -> dict[str, Any]:
    return CloudEvent.model_validate({**EVENT, **attributes}).item()


def test_attributes_and_data_become_one_item() -> None:
    ids = {"userid": "ada", "runid": "r", "correlationid": "order 7", "causationid": "e0"}
    said = _item(time="2025-01-01T01:00:00+01:00", **ids, traceparent="00-1", datacontenttype=None)

    assert said == {
        "type": "workflow_progress",
        "workflow_id": "w",
        "event_id": "/builds 42",
        "timestamp": "2025-01-01T00:00:00.000Z",
        "user_id": "ada",
        "run_id": "r",
        "correlation_id": "order 7",
        "causation_id": "e0",
        "step": "s",
        "progress": 1,
    }


@pytest.mark.parametrize(
    ("event_type", "field"),
    [
        ("workflow_progress", "workflow_id"),
        ("pipai.analysis_progress", "file_id"),
        ("pipai.ai_progress", "workflow_id"),
        ("notification", "user_id"),
    ],
)
def test_the_subject_is_the_id_of_what_the_type_is_about(event_type: str, field: str) -> None:
    assert _item(type=event_type, subject="x")[field] == "x"


def test_the_same_id_of_two_sources_is_two_events() -> None:
    ids = {_item(source=source, id=event_id)["event_id"] for source in ("a", "b", "a#1") for event_id in ("1", "2")}

    assert len(ids) == 6


def test_an_id_that_is_too_long_to_keep_becomes_one_that_is_not() -> None:
    long = [_item(source="s" * 1000, id=f"{number}{'i' * 500}")["event_id"] for number in (1, 1, 2)]

    assert long[0] == long[1] != long[2]
    assert check_id(long[0])


@pytest.mark.parametrize(
    ("place", "attributes"),
    [
        ("specversion", {"specversion": "0.3"}),
        ("id", {"id": ""}),
        ("id", {"id": "a\nb"}),
        ("source", {"source": "a b"}),
        ("source", {"source": None}),
        ("type", {"type": "com.example.done"}),
        ("type", {"type": "pipai.temporal_status"}),
        ("subject", {"subject": ""}),
        ("subject", {"subject": None}),
        ("time", {"time": "yesterday"}),
        ("datacontenttype", {"datacontenttype": "text/xml"}),
        ("userid", {"userid": 1}),
        ("data", {"data": "text"}),
        ("data", {"data": None}),
    ],
)
def test_what_cannot_be_published_is_refused_where_it_stands(place: str, attributes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        _item(**attributes)

    assert [error["loc"] for error in refused.value.errors()] == [(place,)]


@pytest.mark.parametrize(
    ("attributes", "data"),
    [
        ({}, {"event_id": "x"}),
        ({}, {"workflow_id": "v"}),
        ({"userid": "ada"}, {"user_id": "bob"}),
        ({"runid": "r"}, {"run_id": "s"}),
    ],
)
def test_data_does_not_say_again_what_an_attribute_says(attributes: dict[str, str], data: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=f"data.{next(iter(data))} is said by an attribute already"):
        _item(**attributes, data=data)


def test_data_may_say_what_no_attribute_does() -> None:
    assert _item(data={"user_id": "bob"})["user_id"] == "bob"
