"""What of an event decides how a stream may be shaped."""

from typing import Any, Final, NamedTuple, cast

from pydantic_core import from_json

_PROGRESS: Final = frozenset({"workflow_progress", "analysis_progress", "ai_progress"})
_DONE: Final = 100


class Subject(NamedTuple):
    """What a progress event tells of. Of two events with the same subject the later makes the earlier old news.

    Runs are apart, and so is what came late, for it says nothing of the run that goes on.
    """

    event: str
    id: str
    step: str
    run_id: str | None
    late: bool


class Traits(NamedTuple):
    """``subject``: what it is progress of; None for an event that must neither wait nor be left out.

    ``joins``: it may become one with its neighbour of the same subject. ``text``: it has words that none may lack.
    """

    subject: Subject | None
    joins: bool = False
    text: bool = False


_URGENT: Final = Traits(None)


def traits_of(event: str, data: bytes) -> Traits:
    """The traits of an event with this name and JSON. One that says the end of something is urgent."""
    if event not in _PROGRESS:
        return _URGENT
    try:
        return _traits_of_progress(event, cast("dict[str, Any]", from_json(data)))
    except (ValueError, LookupError, TypeError, AttributeError):
        return _URGENT  # another hand wrote it: nothing is known of it, so it is passed on as it is


def _traits_of_progress(event: str, fields: dict[str, Any]) -> Traits:
    subject = Subject(
        event, fields.get("workflow_id") or fields["file_id"], fields["step"], fields.get("run_id"), "late" in fields
    )
    texts = (subject.id, subject.step, subject.run_id, fields.get("delta"))
    if not all(text is None or isinstance(text, str) for text in texts):
        return _URGENT
    ai = event == "ai_progress"
    done = (fields.get("progress") or 0) >= _DONE or (ai and fields.get("result") is not None)
    if done or fields.get("canceled") or fields.get("error") is not None:
        return _URGENT
    return Traits(subject, joins=ai, text=ai and bool(fields.get("delta")))
