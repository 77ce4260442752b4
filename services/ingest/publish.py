"""The publish endpoints: one event per request, answered when it is in the log."""

from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request, Response

from core.log.errors import LogUnavailableError
from core.runtime.clock import now
from core.runtime.http import PathId
from pipai_contracts.envelope import EventTooLargeError
from pipai_contracts.publish import (
    PublishAi,
    PublishAnalysis,
    PublishBody,
    Published,
    PublishNotification,
    PublishWorkflow,
)
from services.ingest.bodies import described, read_model
from services.ingest.publisher import Publisher
from services.ingest.refusals import CountedRoute, documented, log_away, too_large


def publish_router(publisher: Publisher) -> APIRouter:
    """Routes below ``/stream/publish``."""
    router = APIRouter(prefix="/stream/publish", tags=["publish"], route_class=CountedRoute)

    def route(path: str, body: type[PublishBody]) -> Any:
        return router.post(
            path,
            status_code=202,
            response_model=Published,
            responses=documented(400, 413, 415, 422, 503),
            openapi_extra=described(body),
        )

    async def accept(request: Request, resource_id: str, model: type[PublishBody]) -> Response:
        published = await _append(publisher, resource_id, await read_model(request, model))
        return Response(published.model_dump_json(), status_code=202, media_type="application/json")

    @route("/workflow/{workflow_id}", PublishWorkflow)
    async def workflow(request: Request, workflow_id: PathId) -> Response:
        """A workflow moved, ended or failed."""
        return await accept(request, workflow_id, PublishWorkflow)

    @route("/analysis/{file_id}", PublishAnalysis)
    async def analysis(request: Request, file_id: PathId) -> Response:
        """The analysis of a file moved, ended or failed."""
        return await accept(request, file_id, PublishAnalysis)

    @route("/ai/{workflow_id}", PublishAi)
    async def ai(request: Request, workflow_id: PathId) -> Response:
        """An AI step of a workflow moved."""
        return await accept(request, workflow_id, PublishAi)

    @route("/notification/{user_id}", PublishNotification)
    async def notification(request: Request, user_id: PathId) -> Response:
        """A message for a user."""
        return await accept(request, user_id, PublishNotification)

    _ = (workflow, analysis, ai, notification)  # called through the router only
    return router


async def _append(publisher: Publisher, resource_id: str, body: PublishBody) -> Published:
    envelope = body.envelope(resource_id, new_id=uuid4().hex, now=now())
    try:
        [published] = await publisher.publish([envelope], generated_ids=body.event_id is None)
    except EventTooLargeError as error:
        raise too_large("body", str(error)) from error
    except LogUnavailableError as error:
        raise log_away() from error
    return published
