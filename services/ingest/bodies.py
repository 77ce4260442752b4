"""JSON bodies: read with a bound, parsed strictly, described for OpenAPI."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from functools import lru_cache
from math import inf
from typing import Any, Final, TypeVar, cast

from fastapi import Request
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from core.runtime.problems import invalid
from pipai_contracts.events import MAX_EVENT_BYTES
from services.ingest.refusals import bad_body, too_large, too_much_at_once, too_slow, wrong_content_type

MAX_BODY_BYTES: Final = 3 * MAX_EVENT_BYTES
"""Escapes (``\\u00e9`` for a character of two bytes) make an event at most three times as long on its way here."""

SILENCE: Final = 20.0
"""Seconds within which more of a body has to come. A few senders that stop half-way would hold all of `Room`."""

WHOLE: Final = 120.0
"""Seconds within which all of a body that is kept in memory has to come."""

JSON: Final = "application/json"

ModelT = TypeVar("ModelT", bound=BaseModel)


class Room:
    """Bytes that the bodies of large requests may take together, while they are read and until they are answered."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    @contextmanager
    def share(self) -> Generator[Callable[[int], None]]:
        """A request's share: a call takes so many bytes more (503 when they are not left), the end gives all back."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self._left:
                raise too_much_at_once()
            self._left -= size
            taken += size

        try:
            yield take
        finally:
            self._left += taken


async def read_model(request: Request, model: type[ModelT]) -> ModelT:
    """The request's body as a ``model``.

    Raises:
        ProblemError: as `read_json` and `as_model`.
    """
    return as_model(await read_json(request), model)


async def read_json(request: Request) -> bytes:
    """The request's body, declared as JSON.

    Raises:
        ProblemError: 415 not declared as JSON, 413 too long, 408 it did not come.
    """
    require_type(request, JSON)
    return await read_bounded(request, MAX_BODY_BYTES)


def as_model(body: bytes, model: type[ModelT]) -> ModelT:
    """A ``model`` of what stands in the body.

    Raises:
        ProblemError: 400 not JSON, 422 not valid.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError:
        values = parse(body)  # what is wrong, and where, is said in one form however the body came
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid(error, root="body") from error


def parse(body: bytes, where: str = "body") -> Any:
    """The JSON in the body, or in the part of it that stands at ``where``.

    Raises:
        ProblemError: 400, it is none; says line and column.
    """
    try:
        return from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise bad_body(f"is not JSON: {error}", where) from error


async def read_bounded(request: Request, limit: int, take: Callable[[int], None] | None = None) -> bytes:
    """The request's body, of which never more than ``limit`` bytes and one network read are taken in.

    Once it is whole it is copied, so that for a moment up to twice ``limit`` is held. ``take`` hears how many bytes
    are taken in more, before they are: see `Room.share`.

    Raises:
        ProblemError: 413 more than ``limit`` bytes, declared or sent; 408 more of it did not come within `SILENCE`
            seconds, or all of it within `WHOLE`; and what ``take`` raises.
        starlette.requests.ClientDisconnect: the client went away.
    """
    refuse_declared_length(request, limit, "body")
    body = bytearray()
    async for chunk in arriving(request, within=WHOLE):
        if len(body) + len(chunk) > limit:
            raise too_large("body", f"must have at most {limit} bytes")
        if take is not None:
            take(len(chunk))
        body += chunk
    return bytes(body)


async def arriving(request: Request, *, within: float | None = None) -> AsyncGenerator[bytes]:
    """The body piece by piece, each within `SILENCE` seconds after the one before was taken, all ``within`` so many.

    Raises:
        ProblemError: 408.
        starlette.requests.ClientDisconnect: the client went away.
    """
    now = asyncio.get_running_loop().time
    end = inf if within is None else now() + within
    more = True
    while more:
        try:
            async with asyncio.timeout_at(min(now() + SILENCE, end)):
                message = await request.receive()
        except TimeoutError as error:
            raise too_slow() from error
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        yield message.get("body", b"")
        more = message.get("more_body", False)


def header(request: Request, name: bytes) -> str:
    """A header's value, "" without one; of several the first. ``name`` in lower case."""
    for found, value in request.scope["headers"]:
        if found == name:
            return value.decode("latin-1")
    return ""


def refuse_declared_length(request: Request, limit: int, where: str) -> None:
    """Refuse what says it is too long before any of it is read.

    Raises:
        ProblemError: 413.
    """
    declared = header(request, b"content-length")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(where, f"must have at most {limit} bytes, not {declared}")


def require_type(request: Request, *expected: str) -> str:
    """Which of the expected content types the body is declared as, in UTF-8.

    Raises:
        ProblemError: 415.
    """
    declared = header(request, b"content-type")
    kind = _utf8_type(declared) if len(declared) <= _MAX_CONTENT_TYPE else None
    if kind is None or kind not in expected:
        raise wrong_content_type(f"{' or '.join(expected)} in UTF-8", declared)
    return kind


_MAX_CONTENT_TYPE: Final = 200


@lru_cache(maxsize=256)
def _utf8_type(content_type: str) -> str | None:
    """The media type, unless it is declared with another charset. Kept, because nearly all requests say the same."""
    kind, options = parse_options_header(content_type)
    charset = options.get(b"charset", b"utf-8").decode("latin-1").lower()
    return kind.decode("latin-1") if charset in {"utf-8", "utf8"} else None


def described(contents: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI description of a route that reads its body by itself: content type → what is in it."""
    schemas = {kind: {"schema": _inline(TypeAdapter(content).json_schema())} for kind, content in contents.items()}
    return {"requestBody": {"required": True, "content": schemas}}


def _inline(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without ``$defs``: within an OpenAPI document ``#/$defs/…`` points nowhere."""
    definitions = schema.get("$defs", {})

    def resolve(part: Any) -> Any:
        match part:
            case {"$ref": str(reference)}:
                return resolve(definitions[reference.rpartition("/")[2]])
            case dict():
                items = cast("dict[str, Any]", part)
                return {name: resolve(value) for name, value in items.items() if name not in {"$defs", "discriminator"}}
            case list():
                return [resolve(value) for value in cast("list[Any]", part)]
            case _:
                return part

    return resolve(schema)
