"""JSON bodies of requests: read with a bound, parsed strictly, described for OpenAPI."""

import asyncio
from typing import Any, Final, TypeVar, cast

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from core.runtime.problems import ProblemError, invalid
from pipai_contracts.problems import FieldProblem

MAX_BODY_BYTES: Final = 1024 * 1024
"""200 topics of 200 characters that are all escaped, with their cursors, have half of it."""

WHOLE: Final = 20.0
"""Seconds within which all of a body has to come."""

ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_model(request: Request, model: type[ModelT]) -> ModelT:
    """The request's body as a ``model``.

    Raises:
        ProblemError: 415 not declared as JSON, 413 too long, 408 it did not come, 400 not JSON, 422 not valid.
        starlette.requests.ClientDisconnect: the client went away.
    """
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared != "application/json":
        what = f"must be application/json, not {declared[:100]!r}"
        raise _refusal(415, "content-type", "Wrong content type", what, "header.content-type")
    try:
        async with asyncio.timeout(WHOLE):
            body = await _read(request)
    except TimeoutError as error:
        raise _refusal(408, "too-slow", "The body did not come", f"must come within {WHOLE:.0f} s") from error
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise _refusal(400, "bad-body", "The body cannot be read", str(error.errors()[0]["msg"])) from error
        raise invalid(error, root="body") from error


def described(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI description of a route that reads its body by itself, which is a ``model``."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    for name, part in schema.pop("$defs", {}).items():
        _put_in(schema, f"#/components/schemas/{name}", part)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def _read(request: Request) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _refusal(413, "too-large", "Too large", f"must have at most {MAX_BODY_BYTES} bytes")
        more = message.get("more_body", False)
    return bytes(body)


def _put_in(place: Any, reference: str, part: Any) -> None:
    """Replace every such reference in ``place``: nothing in an OpenAPI document defines what it points to."""
    match place:
        case {"$ref": found} if found == reference:
            place.clear()
            place.update(part)
        case dict():
            for inner in cast("dict[str, Any]", place).values():
                _put_in(inner, reference, part)
        case list():
            for inner in cast("list[Any]", place):
                _put_in(inner, reference, part)
        case _:
            pass


def _refusal(status: int, kind: str, title: str, what: str, where: str = "body") -> ProblemError:
    # What may still come of a body that was not read would be taken for the next request.
    headers = {"Connection": "close"} if status in {408, 413} else None
    fault = FieldProblem(where=where, what=what)
    return ProblemError(status, kind, title, f"{where}: {what}", errors=[fault], headers=headers)
