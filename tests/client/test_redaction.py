"""What others must not see is hidden; what belongs together still does."""

from typing import Any

import pytest

from pipai.redaction import Redaction, parse_path


def _event(user: str | None = "ada", **data: Any) -> dict[str, Any]:
    return {"topic": "workflow:w", "user_id": user, "data": {"workflow_id": "w", "progress": 5, **data}}


def _redacted(event: dict[str, Any], *paths: str) -> dict[str, Any]:
    return Redaction([parse_path(path) for path in paths]).of(event)


def test_texts_are_marked_and_everything_else_becomes_null() -> None:
    hidden = _redacted(_event(message="secret", result={"rows": [1]}), "data.message", "data.result")
    assert hidden == _event(message="[redacted]", result=None)


def test_a_star_is_every_member_of_an_object_or_list() -> None:
    metadata = {"email": "a@b", "age": 7, "tags": ["x"]}
    assert _redacted(_event(metadata=metadata), "data.metadata.*")["data"]["metadata"] == {
        "email": "[redacted]",
        "age": None,
        "tags": None,
    }
    parts = [{"name": "x", "size": 1}, {"name": "y", "size": 2}]
    assert _redacted(_event(result=parts), "data.result.*.name")["data"]["result"] == [
        {"name": "[redacted]", "size": 1},
        {"name": "[redacted]", "size": 2},
    ]


def test_what_is_not_there_is_not_made() -> None:
    assert _redacted(_event(message=None), "data.metadata.email") == _event(message=None)


def test_a_user_is_the_same_stranger_everywhere() -> None:
    redaction = Redaction([parse_path("user_id")])
    notice = {"topic": "user:bob", "user_id": None, "data": {"user_id": "bob", "title": "bob"}}
    told = [redaction.of(event) for event in (_event("ada"), notice, _event("bob"), _event("ada"), _event(None))]
    assert [event["user_id"] for event in told] == ["user-1", None, "user-2", "user-1", None]
    assert told[1]["topic"] == "user:user-2"
    assert told[1]["data"] == {"user_id": "user-2", "title": "bob"}


def test_the_event_given_is_not_changed() -> None:
    event = _event(message="secret")
    _redacted(event, "data.message", "user_id")
    assert event == _event(message="secret")


def test_paths_that_matched_nothing_are_known() -> None:
    typo = parse_path("data.mesage")
    redaction = Redaction([typo, parse_path("data.message")])
    redaction.of(_event(message="secret"))
    assert redaction.met == {("data", "message")}


@pytest.mark.parametrize("path", ["", "data", "stream_id", "offset", "data..x", "user_id.x", "*", "topic"])
def test_what_says_which_event_it_is_cannot_be_hidden(path: str) -> None:
    with pytest.raises(ValueError, match="is not data"):
        parse_path(path)
