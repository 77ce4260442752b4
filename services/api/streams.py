"""The streaming endpoints."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, get_args

from fastapi import APIRouter, Request, Response
from redis.exceptions import RedisError

from core.runtime.http import PathId
from core.runtime.problems import ProblemError
from core.runtime.shortcuts import Endpoint
from core.views.errors import UnreadableViewError
from pipai_contracts.cursor import Cursor
from pipai_contracts.ids import Kind, Topic
from services.api.access import Asking, reader_of
from services.api.asked import Asked, AskedOfStream, asked_plainly
from services.api.audience import Audience, DrainingError
from services.api.channel import Channel
from services.api.hub import Hub
from services.api.settings import ApiSettings
from services.api.stream_response import StreamResponse, Unanswered

PREFIX: Final = "/stream"
STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "Server-Sent Events until the run ends.", "content": {"text/event-stream": {}}},
    204: {"description": "The run is over and everything was seen."},
}


Open = Callable[[Topic, Asked], Awaitable[Response]]
"""Answers who wants to watch a topic: with a stream, with 204, or with a `ProblemError`."""


def opener(hub: Hub, audience: Audience, settings: ApiSettings) -> Open:
    """How streams of one topic are opened in this process."""

    async def open_stream(topic: Topic, asked: Asked) -> Response:
        try:
            return await answer(topic, asked)
        except DrainingError as error:
            return Unanswered(error)

    async def answer(topic: Topic, asked: Asked) -> Response:
        audience.check_room()
        channel = await open_channel(hub, topic)
        if asked.cursor is not None and await nothing_left(channel, asked.cursor):
            return Response(status_code=204, headers={"Cache-Control": "no-store"})
        audience.check_room()  # again: others came while the store was asked
        return StreamResponse(
            lambda outlet: audience.serve(outlet, channel, asked),
            audience.shutdown,
            gzip=settings.stream_compression and asked.gzip,
        )

    return open_stream


def stream_shortcuts(open_stream: Open) -> Mapping[str, Endpoint]:
    """Method and path without id → its endpoint, for `Shortcuts`: in a storm of reconnects each stream is opened so."""

    def endpoint(kind: Kind) -> Endpoint:
        async def answer(request: Request, resource_id: str) -> Response | None:
            asked = asked_plainly(request)
            return None if asked is None else await open_stream(reader_of(request).topic(kind, resource_id), asked)

        return answer

    return {f"GET {PREFIX}/{kind}": endpoint(kind) for kind in get_args(Kind)}


def stream_routes(open_stream: Open) -> APIRouter:
    """One endpoint per kind of topic."""
    router = APIRouter(tags=["streams"], prefix=PREFIX)

    @router.get("/workflow/{workflow_id}", response_class=Response, responses=STREAM)
    async def stream_workflow(workflow_id: PathId, asking: Asking, asked: AskedOfStream) -> Response:
        """A workflow's progress, live."""
        return await open_stream(asking.topic("workflow", workflow_id), asked)

    @router.get("/file/{file_id}", response_class=Response, responses=STREAM)
    async def stream_file(file_id: PathId, asking: Asking, asked: AskedOfStream) -> Response:
        """The analysis of a file, live."""
        return await open_stream(asking.topic("file", file_id), asked)

    @router.get("/user/{user_id}", response_class=Response, responses=STREAM)
    async def stream_user(user_id: PathId, asking: Asking, asked: AskedOfStream) -> Response:
        """Everything about a user's workflows and files, and their notifications, live."""
        return await open_stream(asking.topic("user", user_id), asked)

    _ = (stream_workflow, stream_file, stream_user)
    return router


async def nothing_left(channel: Channel, cursor: Cursor) -> bool:
    """Whether a viewer who comes back has seen everything and the run has ended: 204 stops its EventSource for good.

    So the store is asked, which may have a run this process has not heard of; without its word the viewer is let in.
    """
    if cursor != channel.cursor or not channel.ended:
        return False
    try:
        known = await channel.memory.look(fresh=True)
    except (RedisError, UnreadableViewError):
        return False
    return known.ended and known.cursor == cursor


async def open_channel(hub: Hub, topic: Topic) -> Channel:
    """The topic's channel.

    Raises:
        ProblemError: Redis did not answer and the topic is not watched here, or its view cannot be read (503).
    """
    try:
        return await hub.channel(topic)
    except RedisError as error:
        raise unavailable() from error
    except UnreadableViewError as error:
        raise unreadable(error) from error


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
