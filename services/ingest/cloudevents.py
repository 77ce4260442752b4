"""``POST /stream/publish/events``: CloudEvents 1.0; `pipai_contracts.cloudevents` says what becomes what."""

from typing import Any, Final
from urllib.parse import unquote

from fastapi import APIRouter, Request, Response

from core.runtime.clock import now
from pipai_contracts.batch import MAX_BATCH_BYTES, BatchAnswer, seal_item
from pipai_contracts.cloudevents import CloudEvent
from pipai_contracts.envelope import EventTooLargeError
from pipai_contracts.publish import Published
from services.ingest.batch import ROOM, append_all
from services.ingest.bodies import JSON, MAX_BODY_BYTES, Room, described, parse, read_bounded, require_type
from services.ingest.items import in_array, read_cloudevent
from services.ingest.made_ids import made_id
from services.ingest.publish import append_one
from services.ingest.publisher import Publisher
from services.ingest.refusals import CountedRoute, documented, too_large

ONE: Final = "application/cloudevents+json"
MANY: Final = "application/cloudevents-batch+json"

_HEADER_PREFIX: Final = "ce-"


def cloudevents_router(publisher: Publisher) -> APIRouter:
    """The route that takes CloudEvents."""
    router = APIRouter(prefix="/stream/publish", tags=["publish"], route_class=CountedRoute)
    room = Room(ROOM)

    @router.post(
        "/events",
        status_code=202,
        response_model=Published,
        responses={**documented(400, 408, 413, 415, 422, 503), 200: {"model": BatchAnswer}},
        openapi_extra=described({ONE: CloudEvent, MANY: list[CloudEvent], JSON: dict[str, Any]}),
    )
    async def events(request: Request) -> Response:
        """CloudEvents 1.0: one (structured, or binary with ce- headers and its data as body), or a batch of them.

        The type is pipai.workflow_progress, pipai.analysis_progress, pipai.ai_progress or pipai.notification; the
        subject is the id of the workflow, file or user; the data is the body of that endpoint; userid and runid are
        extensions. A batch is answered (200) as /stream/publish/batch answers.
        """
        kind = require_type(request, ONE, MANY, JSON)
        if kind == MANY:
            with room.share() as take:
                body = await read_bounded(request, MAX_BATCH_BYTES, take)
                return await append_all(publisher, in_array(body), read_cloudevent)
        value = parse(await read_bounded(request, MAX_BODY_BYTES))
        if kind == JSON:
            value = {**_attributes(request), "data": value}
        try:
            event = seal_item(read_cloudevent(value, "body"), new_id=made_id(), now=now())
        except EventTooLargeError as error:
            raise too_large("body", str(error)) from error
        return await append_one(publisher, event)

    _ = events  # called through the router only
    return router


def _attributes(request: Request) -> dict[str, str]:
    """The attributes of a CloudEvent whose data is the body."""
    return {
        name.removeprefix(_HEADER_PREFIX): unquote(value)
        for name, value in request.headers.items()
        if name.startswith(_HEADER_PREFIX)
    }
