"""JSON bodies: read with a bound, parsed strictly, described for OpenAPI."""

from typing import Any, Final, TypeVar, cast

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from python_multipart.multipart import parse_options_header

from core.runtime.problems import invalid
from pipai_contracts.events import MAX_EVENT_BYTES
from services.ingest.refusals import bad_body, too_large, wrong_content_type

MAX_BODY_BYTES: Final = 3 * MAX_EVENT_BYTES
"""Escapes (``\\u00e9`` for a character of two bytes) make an event at most three times as long on its way here."""

_JSON: Final = "application/json"

ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_model(request: Request, model: type[ModelT]) -> ModelT:
    """The request's body as a ``model``.

    Raises:
        ProblemError: 415 not declared as JSON, 413 too long, 400 not JSON, 422 not valid.
    """
    _require_json(request.headers.get("content-type", ""))
    body = await read_bounded(request, MAX_BODY_BYTES)
    try:
        values = from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:  # says line and column
        raise bad_body(f"is not JSON: {error}") from error
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid(error, root="body") from error


async def read_bounded(request: Request, limit: int) -> bytes:
    """The request's body, of which never more than ``limit`` bytes and one network read are held.

    Raises:
        ProblemError: 413.
    """
    refuse_declared_length(request, limit, "body")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large("body", f"must have at most {limit} bytes")
    return bytes(body)


def refuse_declared_length(request: Request, limit: int, where: str) -> None:
    """Refuse what says it is too long before any of it is read.

    Raises:
        ProblemError: 413.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(where, f"must have at most {limit} bytes, not {declared}")


def _require_json(content_type: str) -> None:
    kind, options = parse_options_header(content_type)
    charset = options.get(b"charset", b"utf-8").decode("latin-1").lower()
    if kind.decode("latin-1") != _JSON or charset not in {"utf-8", "utf8"}:
        raise wrong_content_type(f"{_JSON} in UTF-8", content_type)


def described(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI description of a route that reads its body by itself."""
    schema = model.model_json_schema()
    return {"requestBody": {"required": True, "content": {_JSON: {"schema": _inline(schema)}}}}


def _inline(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without ``$defs``: within an OpenAPI document ``#/$defs/…`` points nowhere."""
    definitions = schema.get("$defs", {})

    def resolve(part: Any) -> Any:
        match part:
            case {"$ref": str(reference)}:
                return resolve(definitions[reference.rpartition("/")[2]])
            case dict():
                items = cast("dict[str, Any]", part)
                return {name: resolve(value) for name, value in items.items() if name != "$defs"}
            case list():
                return [resolve(value) for value in cast("list[Any]", part)]
            case _:
                return part

    return resolve(schema)
