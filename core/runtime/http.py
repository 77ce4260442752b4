"""What every HTTP service shares: problem reports, raw path segments, probes, composition of an app."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from fastapi import APIRouter, FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.telemetry import TelemetryConfig
from pydantic import AfterValidator, BeforeValidator
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from core.runtime.origins import OwnOriginPosts
from core.runtime.problems import ProblemError, invalid, problem_response
from core.runtime.server import Drain
from core.runtime.shortcuts import Endpoint, Shortcuts, decode_segment
from pipai_contracts.ids import check_id

_NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
"""Without this each request asks the environment whether OpenTelemetry is set up, which nothing here does."""


class RawPathSegments:
    """ASGI middleware: routes see the path still percent-encoded, so an id may hold any character.

    Without this ``%2F`` in an id would be taken for the end of a path segment. `PathId` decodes it again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the encoded path in place of the decoded one."""
        if scope["type"] == "http" and scope.get("raw_path"):
            scope = {**scope, "path": scope["raw_path"].split(b"?")[0].decode("latin-1")}
        await self._app(scope, receive, send)


PathId = Annotated[str, BeforeValidator(decode_segment), AfterValidator(check_id), Path()]
"""An id in the path: decoded, 1-200 printable characters."""


async def _nothing_to_drain() -> None:
    """Every answer of the service is a short one."""


@dataclass(frozen=True, slots=True)
class HttpService:
    """A service as an app takes it in: its routes, what runs beside them, and whether it is ready.

    ``ready`` returns a sentence on what is missing, None when nothing is. ``shortcuts``: see `Shortcuts`. ``drain`` is
    called when the process is told to stop, before it stops answering.
    """

    name: str
    router: APIRouter
    lifespan: Callable[[], AbstractAsyncContextManager[None]]
    ready: Callable[[], Awaitable[str | None]]
    shortcuts: Mapping[str, Endpoint] = field(default_factory=dict[str, Endpoint])
    drain: Drain = _nothing_to_drain


def create_app(*services: HttpService, title: str, cors_origins: Sequence[str] = ()) -> FastAPI:
    """One app of one or several services: their routes, probes, problem reports and lifespans.

    Pages of ``cors_origins`` may call it: exact origins, or ``*`` for any.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            for service in services:
                await stack.enter_async_context(service.lifespan())
            yield

    app = FastAPI(title=title, lifespan=lifespan, redirect_slashes=False, telemetry=_NO_TELEMETRY)
    shortcuts = {prefix: endpoint for service in services for prefix, endpoint in service.shortcuts.items()}
    if shortcuts:
        app.add_middleware(Shortcuts, endpoints=shortcuts)
    app.add_middleware(RawPathSegments)
    app.add_middleware(OwnOriginPosts, allowed=cors_origins)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Cache-Control", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
            expose_headers=["ETag", "Retry-After"],
            max_age=600,
        )
    for service in services:
        app.include_router(service.router)
    app.include_router(_probes(services))
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_fault)
    return app


def _probes(services: Sequence[HttpService]) -> APIRouter:
    router = APIRouter(tags=["probes"])

    @router.get("/livez")
    async def livez() -> dict[str, str]:
        """The process runs and answers."""
        return {"status": "alive"}

    @router.get("/readyz")
    async def readyz() -> dict[str, str]:
        """The process can do its work now; 503 with the reason when not."""
        for service in services:
            missing = await service.ready()
            if missing is not None:
                raise ProblemError(503, "not-ready", "Not ready", f"{service.name}: {missing}")
        return {"status": "ready"}

    # Both are called through the router only.
    _ = (livez, readyz)
    return router


async def _on_disconnect(_request: Request, _error: Exception) -> Response:
    """The client is gone: nobody reads this, and it is no fault of ours to be logged."""
    return Response(status_code=400)


async def _on_problem(_: Request, error: Exception) -> Response:
    if not isinstance(error, ProblemError):
        raise error
    return problem_response(error)


async def _on_invalid(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return problem_response(invalid(error))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    kind = str(error.detail).lower().replace(" ", "-")
    detail: Any = f"{request.method} {request.url.path}: {error.detail}"
    return problem_response(
        ProblemError(error.status_code, kind, str(error.detail), detail, headers=dict(error.headers or {}))
    )


async def _on_fault(_: Request, __: Exception) -> Response:
    """The answer to a fault of ours; the exception itself goes on to the server, which logs it."""
    return problem_response(
        ProblemError(500, "internal", "Internal error", "the request could not be answered; the log says why")
    )
