"""The events of a batch, one by one: each is what it should be, or says what is wrong with it."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final, cast

from pydantic import ValidationError

from core.runtime.problems import ProblemError, field_problems, invalid, invalid_fields
from pipai_contracts.batch import ITEMS, MAX_BATCH_EVENTS, Item
from pipai_contracts.cloudevents import ATTRIBUTE_OF, CloudEvent
from pipai_contracts.problems import FieldProblem
from services.ingest.bodies import parse
from services.ingest.refusals import invalid_field, too_large


def read_item(value: object, where: str) -> Item:
    """An event of a batch that stands at ``where``.

    Raises:
        ProblemError: 422, it is none.
    """
    if not isinstance(value, dict):
        raise invalid_field(where, "must be an object")
    fields = cast("dict[str, Any]", value)
    name = fields.get("type")
    model = ITEMS.get(name) if isinstance(name, str) else None
    if model is None:
        raise invalid_field(f"{where}.type", f"must be one of {', '.join(ITEMS)}")
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise invalid(error, root=where) from error


def read_cloudevent(value: object, where: str) -> Item:
    """What a CloudEvent that stands at ``where`` publishes.

    Raises:
        ProblemError: 422, it is none, or publishes nothing that can be.
    """
    try:
        event = CloudEvent.model_validate(value)
    except ValidationError as error:
        raise invalid(error, root=where) from error
    fields = event.item()
    try:
        return ITEMS[fields["type"]].model_validate(fields)
    except ValidationError as error:
        raise invalid_fields([_in_cloudevent(fault, where) for fault in field_problems(error)]) from error


def _in_cloudevent(fault: FieldProblem, where: str) -> FieldProblem:
    attribute = ATTRIBUTE_OF.get(fault.where)
    return FieldProblem(where=f"{where}.{attribute or f'data.{fault.where}'}", what=fault.what)


_MAX_CONTAINERS: Final = 500_000
"""Lists and objects in an array of events, counted without reading it: millions of empty ones fit into 16 MiB, and
reading them would hold up every other request for seconds."""


def in_array(body: bytes) -> list[object]:
    """The elements of a JSON array.

    Raises:
        ProblemError: 400 it is no JSON, 422 no array, 413 one of too many.
    """
    if body.count(b"[") + body.count(b"{") > _MAX_CONTAINERS:
        raise too_large("body", f"must have at most {_MAX_CONTAINERS} lists and objects")
    values = parse(body)
    if not isinstance(values, list):
        raise invalid_field("body", "must be an array")
    elements = cast("list[object]", values)
    if len(elements) > MAX_BATCH_EVENTS:
        raise _too_many()
    return elements


def in_lines(body: bytes) -> list[object]:
    """What stands in the lines of NDJSON, empty ones aside; for a line that is no JSON the problem it is.

    Raises:
        ProblemError: 413, there are too many lines.
    """
    elements: list[object] = []
    for line in _lines(body):
        if len(elements) == MAX_BATCH_EVENTS:
            raise _too_many()
        try:
            elements.append(parse(line.strip(), f"body.{len(elements)}"))
        except ProblemError as error:
            elements.append(error)
    return elements


def _lines(body: bytes) -> Iterator[bytes]:
    return (line for line in BytesIO(body) if not line.isspace())


def _too_many() -> ProblemError:
    return too_large("body", f"must have at most {MAX_BATCH_EVENTS} events")
