"""What a publish body becomes: the event its fields say, sealed without making the event first."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from pipai_contracts.batch import ITEMS, seal_item
from pipai_contracts.envelope import Envelope, EventTooLargeError
from pipai_contracts.events import (
    MAX_EVENT_BYTES,
    AiProgress,
    AnalysisProgress,
    Event,
    Notification,
    WorkflowProgress,
    any_event,
)
from pipai_contracts.publish import PublishAi, PublishAnalysis, PublishBody, PublishNotification, PublishWorkflow
from pipai_contracts.sealed import Sealed, seal

NOW = "2025-01-01T00:00:00.000Z"
PROGRESS = {"step": "read", "progress": 50.0, "message": "é", "result": [1, None], "metadata": {"n": 2**80}}
BODIES: list[tuple[type[PublishBody], type[Event], dict[str, Any]]] = [
    (PublishWorkflow, WorkflowProgress, {**PROGRESS, "error": "e", "canceled": True}),
    (PublishAnalysis, AnalysisProgress, {**PROGRESS, "error": "e", "canceled": False}),
    (PublishAi, AiProgress, {**PROGRESS, "delta": "a", "model": "m"}),
    (PublishNotification, Notification, {"title": "t", "message": "m", "link": "/x", "metadata": {}}),
]
each_body = pytest.mark.parametrize(("body", "event", "fields"), BODIES, ids=[body.__name__ for body, _, _ in BODIES])


@each_body
def test_a_body_is_sealed_as_the_event_it_publishes(
    body: type[PublishBody], event: type[Event], fields: dict[str, Any]
) -> None:
    ids = {"event_id": "e", "user_id": "ada", "run_id": "r", "correlation_id": "order 7", "causation_id": "e0"}
    said = {**ids, "timestamp": "2024-01-01T01:00:00+01:00"}
    made = any_event.validate_python({**fields, "type": body.event_type, body.id_field: "id"})
    envelope = Envelope.model_validate({**ids, "time": said["timestamp"], "event": made})

    assert isinstance(made, event)
    assert body.model_validate({**fields, **said}).seal("id", new_id="made", now=NOW) == seal(envelope)


@each_body
def test_a_body_has_the_fields_of_its_event_checked_alike(
    body: type[PublishBody], event: type[Event], fields: dict[str, Any]
) -> None:
    """Without this a body could be stored that is no event."""
    beside = {*PublishBody.model_fields, body.id_field, "type"}

    def checked(model: type[BaseModel]) -> dict[str, Any]:
        return {name: repr(field) for name, field in model.model_fields.items() if name not in beside}

    assert checked(body) == checked(event)
    assert fields.keys() <= checked(body).keys()


@each_body
def test_an_item_of_a_batch_is_sealed_as_the_body_of_its_endpoint(
    body: type[PublishBody], event: type[Event], fields: dict[str, Any]
) -> None:
    assert event
    item = ITEMS[body.event_type].model_validate({**fields, "type": body.event_type, body.id_field: "id"})

    assert seal_item(item, new_id="made", now=NOW) == body.model_validate(fields).seal("id", new_id="made", now=NOW)


def test_what_a_producer_does_not_say_is_filled_in() -> None:
    sealed = PublishWorkflow(step="s", progress=1).seal("id", new_id="made", now=NOW)

    assert (sealed.event_id, sealed.made_id, sealed.time) == ("made", True, NOW)
    assert (sealed.user_id, sealed.run_id, sealed.topic.path) == (None, None, "default:workflow:id")


def test_an_id_of_the_producer_is_no_made_one() -> None:
    assert not PublishAi(step="s", event_id="mine").seal("id", new_id="made", now=NOW).made_id


def test_only_what_was_said_is_written() -> None:
    assert json.loads(PublishAi(step="s").seal("w", new_id="x", now=NOW).data) == {"workflow_id": "w", "step": "s"}


@pytest.mark.parametrize("over", [0, 1])
def test_a_sealed_event_has_at_most_the_largest_size(over: int) -> None:
    def sealed(message: str) -> Sealed:
        return PublishNotification(title="t", message=message).seal("u", new_id="x", now=NOW)

    fitting = "x" * (MAX_EVENT_BYTES - len(sealed("").data))
    if over:
        with pytest.raises(EventTooLargeError):
            sealed(fitting + "x")
    else:
        assert len(sealed(fitting).data) == MAX_EVENT_BYTES
