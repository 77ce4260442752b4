"""The publish endpoints: one event per request, answered when it is in the log."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from core.log.errors import LogUnavailableError
from core.runtime.clock import now
from core.runtime.http import PathId
from core.runtime.shortcuts import Endpoint
from pipai_contracts.envelope import EventTooLargeError
from pipai_contracts.publish import (
    PublishAi,
    PublishAnalysis,
    PublishBody,
    Published,
    PublishNotification,
    PublishWorkflow,
)
from pipai_contracts.sealed import Sealed
from services.ingest.bodies import JSON, as_model, described, read_json
from services.ingest.idempotency import DESCRIBED, bind_key, idempotency_key, named
from services.ingest.made_ids import made_id
from services.ingest.publisher import Publisher
from services.ingest.refusals import CountedRoute, counted, documented, too_large, unavailable

PREFIX: Final = "/stream/publish"

Accept = Callable[[Request, str], Awaitable[Response]]
"""Has the event of a request appended, and says so."""


def endpoints(publisher: Publisher) -> Mapping[str, Endpoint]:
    """Method and path without id → its endpoint, for `Shortcuts`."""
    bodies: dict[str, type[PublishBody]] = {
        f"{PREFIX}/workflow": PublishWorkflow,
        f"{PREFIX}/analysis": PublishAnalysis,
        f"{PREFIX}/ai": PublishAi,
        f"{PREFIX}/notification": PublishNotification,
    }
    return {f"POST {path}": counted(_endpoint(publisher, body)) for path, body in bodies.items()}


def publish_router(publisher: Publisher) -> APIRouter:
    """Routes below ``/stream/publish``."""
    router = APIRouter(prefix=PREFIX, tags=["publish"], route_class=CountedRoute)

    def route(path: str, body: type[PublishBody]) -> Callable[..., Any]:
        return router.post(
            path,
            status_code=202,
            response_model=Published,
            responses=documented(400, 408, 413, 415, 422, 503),
            openapi_extra={**described({JSON: body}), **DESCRIBED},
        )

    @route("/workflow/{workflow_id}", PublishWorkflow)
    async def workflow(request: Request, workflow_id: PathId) -> Response:
        """A workflow moved, ended or failed."""
        return await _endpoint(publisher, PublishWorkflow)(request, workflow_id)

    @route("/analysis/{file_id}", PublishAnalysis)
    async def analysis(request: Request, file_id: PathId) -> Response:
        """The analysis of a file moved, ended or failed."""
        return await _endpoint(publisher, PublishAnalysis)(request, file_id)

    @route("/ai/{workflow_id}", PublishAi)
    async def ai(request: Request, workflow_id: PathId) -> Response:
        """An AI step of a workflow moved."""
        return await _endpoint(publisher, PublishAi)(request, workflow_id)

    @route("/notification/{user_id}", PublishNotification)
    async def notification(request: Request, user_id: PathId) -> Response:
        """A message for a user."""
        return await _endpoint(publisher, PublishNotification)(request, user_id)

    _ = (workflow, analysis, ai, notification)  # called through the router only
    return router


def _endpoint(publisher: Publisher, model: type[PublishBody]) -> Accept:
    async def accept(request: Request, resource_id: str) -> Response:
        body = await read_json(request)
        try:
            event = as_model(body, model).seal(resource_id, new_id=made_id(), now=now())
        except EventTooLargeError as error:
            raise too_large("body", str(error)) from error
        key = idempotency_key(request)
        if key is not None:
            event = named(event, key)
            await bind_key(publisher, f"{event.type} {event.topic.name}", key, body)
        return await append_one(publisher, event)

    return accept


async def append_one(publisher: Publisher, event: Sealed) -> Response:
    """Append the event and say where it stands.

    Raises:
        ProblemError: 503, it may not be stored.
    """
    [answer] = await publisher.offer([event])
    if isinstance(answer, LogUnavailableError):
        raise unavailable(answer) from answer
    return Response(answer.model_dump_json(), status_code=202, media_type=JSON)
