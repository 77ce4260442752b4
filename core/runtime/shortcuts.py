"""A short way to endpoints that are called thousands of times a second."""

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from core.runtime.problems import ProblemError, problem_response
from pipai_contracts.ids import check_id

Endpoint = Callable[[Request, str], Awaitable[Response | None]]
"""Answers a request about an id; None, with nothing of the request read, when it is one for the long way."""


def decode_segment(value: object) -> str:
    """A path segment as its sender meant it.

    Raises:
        ValueError: it is no percent-encoded UTF-8.
    """
    try:
        return unquote(str(value), errors="strict")
    except UnicodeDecodeError:
        raise ValueError("must be percent-encoded UTF-8") from None


class Shortcuts:
    """ASGI middleware: ``<method> <prefix>/<id>`` goes straight to the endpoint of ``<method> <prefix>``.

    Routers within routers and the resolution of dependencies take longer than all such an endpoint does. The app has
    the same endpoints as routes, which describe them and say what is wrong with a request that is not of this form.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on untouched."""
        if scope["type"] == "http":
            prefix, _, segment = scope["path"].rpartition("/")
            endpoint = self._endpoints.get(f"{scope['method']} {prefix}")
            resource_id = _id_in(segment) if endpoint is not None else None
            if endpoint is not None and resource_id is not None:
                request = Request(scope, receive)
                response = await _answer(endpoint, resource_id, request)
                if response is not None:
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def _id_in(segment: str) -> str | None:
    try:
        return check_id(decode_segment(segment))
    except ValueError:
        return None


async def _answer(endpoint: Endpoint, resource_id: str, request: Request) -> ASGIApp | None:
    try:
        return await endpoint(request, resource_id)
    except ProblemError as error:
        return problem_response(error)
    except ClientDisconnect:
        return _nobody_listens


async def _nobody_listens(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer nothing: the client is gone."""
