"""The streaming endpoints."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from redis.exceptions import RedisError
from sse_starlette import EventSourceResponse, ServerSentEvent

from core.runtime.http import PathId
from core.runtime.problems import ProblemError
from core.views.errors import UnreadableViewError
from pipai_contracts.cursor import Cursor, InvalidCursorError
from pipai_contracts.ids import DEFAULT_TENANT, Kind, Topic
from pipai_contracts.problems import FieldProblem
from services.api.hub import Hub
from services.api.settings import ApiSettings
from services.api.viewer import Viewer, nothing_left

LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", description="Cursor to resume after.")]
CursorParameter = Annotated[
    str | None, Query(alias="cursor", description="The same, for clients that cannot set headers.")
]


def stream_routes(hub: Hub, settings: ApiSettings, viewer: Callable[[Topic], Viewer]) -> APIRouter:
    """One endpoint per kind of topic."""
    router = APIRouter(tags=["streams"], prefix="/stream")

    async def stream(kind: Kind, resource_id: str, header: str | None, parameter: str | None) -> Response:
        topic = Topic(DEFAULT_TENANT, kind, resource_id)
        cursor = parse_cursor(header, parameter)
        try:
            snapshot = await hub.snapshot(topic)
        except RedisError as error:
            raise unavailable() from error
        except UnreadableViewError as error:
            raise unreadable(error) from error
        if nothing_left(snapshot, cursor):
            return Response(status_code=204, headers={"Cache-Control": "no-store"})
        return EventSourceResponse(
            viewer(topic).frames(cursor),
            headers={"Cache-Control": "no-store, private"},
            sep="\n",
            ping=settings.heartbeat_interval,
            ping_message_factory=lambda: ServerSentEvent(comment="heartbeat", sep="\n"),
            shutdown_event=hub.shutdown,
            shutdown_grace_period=1.0,
        )

    @router.get("/workflow/{workflow_id}", response_class=EventSourceResponse)
    async def stream_workflow(
        workflow_id: PathId, last_event_id: LastEventId = None, cursor: CursorParameter = None
    ) -> Response:
        """A workflow's progress, live."""
        return await stream("workflow", workflow_id, last_event_id, cursor)

    @router.get("/file/{file_id}", response_class=EventSourceResponse)
    async def stream_file(
        file_id: PathId, last_event_id: LastEventId = None, cursor: CursorParameter = None
    ) -> Response:
        """The analysis of a file, live."""
        return await stream("file", file_id, last_event_id, cursor)

    @router.get("/user/{user_id}", response_class=EventSourceResponse)
    async def stream_user(
        user_id: PathId, last_event_id: LastEventId = None, cursor: CursorParameter = None
    ) -> Response:
        """Everything about a user's workflows and files, and their notifications, live."""
        return await stream("user", user_id, last_event_id, cursor)

    _ = (stream_workflow, stream_file, stream_user)
    return router


def parse_cursor(header: str | None, parameter: str | None) -> Cursor | None:
    """The cursor to resume after; the header, which a browser's own reconnect sends, is newer than the URL.

    Raises:
        ProblemError: it is no cursor (400).
    """
    text = header or parameter
    if not text:
        return None
    try:
        return Cursor.parse(text)
    except InvalidCursorError as error:
        where = "header.Last-Event-ID" if header else "query.cursor"
        raise ProblemError(
            400, "invalid-cursor", "Not a cursor", str(error), errors=[FieldProblem(where=where, what=str(error))]
        ) from error


def unreadable(error: UnreadableViewError) -> ProblemError:
    """The refusal (503) of a topic whose stored view another hand broke."""
    detail = f"{error}; its next event has it folded again"
    return ProblemError(503, "view-unreadable", "The view cannot be read", detail, headers={"Retry-After": "5"})


def unavailable() -> ProblemError:
    """The refusal (503) while Redis is away."""
    return ProblemError(
        503,
        "store-unavailable",
        "The event store cannot be reached",
        "Redis did not answer; try again in a moment",
        headers={"Retry-After": "1"},
    )
