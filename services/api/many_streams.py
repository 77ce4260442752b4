"""Streams of many topics on one connection."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from redis.exceptions import RedisError

from core.runtime.problems import ProblemError, invalid_fields
from core.views.errors import UnreadableViewError
from pipai_contracts.cursor import Cursor
from pipai_contracts.frames import Shaping
from pipai_contracts.ids import Topic
from pipai_contracts.many import MAX_ADDRESS_TOPICS, ManyTopics, TopicsAnswer, TopicsChange
from pipai_contracts.problems import FieldProblem
from pipai_contracts.vector import InvalidVectorError, Vector, fits
from services.api.access import Asking, Reader
from services.api.asked import (
    AcceptEncoding,
    Asked,
    CursorParameter,
    LastEventId,
    Wishes,
    cursor_place,
    invalid_cursor,
    parse_start,
)
from services.api.audience import Audience, DrainingError
from services.api.bodies import described, read_model
from services.api.channel import Channel
from services.api.compression import accepts_gzip
from services.api.connections import Connections, Places, UnknownConnectionError
from services.api.inbox import Inbox
from services.api.settings import ApiSettings
from services.api.stream_response import StreamResponse, Unanswered
from services.api.streams import STREAM, nothing_left, unavailable, unreadable

TopicParameter = Annotated[
    list[str], Query(alias="topic", description="A topic to watch, like `workflow:w1`; 1 to 20 of them.")
]
_REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    404: {"description": "The connection is not open any more."},
    422: {"description": "It cannot watch so many topics, or one is none."},
    503: {"description": "Its viewer does not read, or the process that serves it does not answer."},
}


def many_stream_routes(connections: Connections, audience: Audience, settings: ApiSettings) -> APIRouter:
    """The endpoints."""
    router = APIRouter(tags=["streams"], prefix="/stream")

    async def stream(places: Places, asked: Asked, address: list[Topic] | None) -> Response:
        audience.check_room()
        try:
            channels = await connections.open_channels(places)
        except RedisError as error:
            raise unavailable() from error
        except UnreadableViewError as error:
            raise unreadable(error) from error
        wanted = {channel: places[topic] for topic, channel in channels.items()}
        if await _nothing_left(wanted):
            return Response(status_code=204, headers={"Cache-Control": "no-store"})
        audience.check_room()  # again: others came while the store was asked
        return StreamResponse(
            lambda outlet: connections.serve(outlet, wanted, asked, address),
            audience.shutdown,
            gzip=settings.stream_compression and asked.gzip,
        )

    @router.get("", response_class=Response, responses=STREAM)
    async def stream_topics(
        asking: Asking,
        topic: TopicParameter,
        asked: Wishes,
        last_event_id: LastEventId = None,
        cursor: CursorParameter = None,
    ) -> Response:
        """Many topics on one connection, for EventSource: each event's id is the place in all of them."""
        address = _read_topics(asking, topic)
        try:
            return await stream(_read_places(asking, address, last_event_id, cursor), asked, address)
        except DrainingError as error:
            return Unanswered(error)

    @router.post("", response_class=Response, responses=STREAM, openapi_extra=described(ManyTopics))
    async def stream_listed(asking: Asking, request: Request, accept_encoding: AcceptEncoding = None) -> Response:
        """Many topics on one connection, for fetch clients: each event's id is its topic and its place there."""
        body = await read_model(request, ManyTopics)
        types = None if body.types is None else tuple(dict.fromkeys(body.types))
        shaping = Shaping(throttle_ms=body.throttle_ms, batch_ms=body.batch_ms, types=types)
        asked = Asked(None, parse_start(body.start, "body.from"), shaping, gzip=accepts_gzip(accept_encoding))
        return await stream(asking.places(body.topics), asked, None)

    _ = (stream_topics, stream_listed)
    return router


async def _nothing_left(wanted: Mapping[Channel, Cursor | None]) -> bool:
    """Whether everything of all these was seen, and none goes on. Who watches nothing waits for topics to be added."""
    for channel, cursor in wanted.items():
        if cursor is None or not await nothing_left(channel, cursor):
            return False
    return bool(wanted)


def connection_routes(changes: Inbox) -> APIRouter:
    """What can be done with a connection that is open."""
    router = APIRouter(tags=["streams"], prefix="/stream/connections")

    @router.post("/{connection_id}/topics", responses=_REFUSED, openapi_extra=described(TopicsChange))
    async def change_topics(connection_id: str, asking: Asking, request: Request) -> TopicsAnswer:
        """Have an open connection watch more topics, and others no longer. Any process takes it."""
        change = await read_model(request, TopicsChange)
        try:
            outcome = await changes.make(connection_id, asking, change)
        except UnknownConnectionError as error:
            raise _gone() from error
        except RedisError as error:
            raise unavailable() from error
        if outcome is None:
            raise _unchanged("the process that serves it does not answer; it is not known whether it was changed")
        if outcome.busy:
            raise _unchanged(f"{outcome.refusal}; nothing was changed")
        if outcome.topics is None:
            raise invalid_fields([FieldProblem(where="body.add", what=str(outcome.refusal))])
        return TopicsAnswer(topics=outcome.topics)

    _ = change_topics
    return router


def _read_topics(asking: Reader, names: list[str]) -> list[Topic]:
    """The topics of an address; one that is named twice counts once.

    Raises:
        ProblemError: too many, or one is none (422).
    """
    if len(names) > MAX_ADDRESS_TOPICS:
        what = f"{len(names)} topics; {MAX_ADDRESS_TOPICS} at most, POST /stream takes more"
        raise invalid_fields([FieldProblem(where="query.topic", what=what)])
    topics: dict[Topic, None] = {}
    for number, name in enumerate(names):
        try:
            topics[asking.named(name)] = None
        except ValueError as error:
            raise invalid_fields([FieldProblem(where=f"query.topic.{number}", what=str(error))]) from error
    return list(topics)


def _read_places(
    asking: Reader, address: list[Topic], header: str | None, parameter: str | None
) -> dict[Topic, Cursor | None]:
    """The topics with their cursors, as the vector the client comes back with has them.

    Raises:
        ProblemError: it is no vector of these topics, or of too many others (400).
    """
    text = header or parameter
    if not text:
        return dict.fromkeys(address)
    try:
        named = Vector.parse(text).of(address)
        places = {asking.named(name): cursor for name, cursor in named.items()}
        if len(places) > MAX_ADDRESS_TOPICS or not fits(address, places):
            raise InvalidVectorError(f"has more topics than a connection can watch, which is {MAX_ADDRESS_TOPICS}")
    except ValueError as error:
        raise invalid_cursor(error, cursor_place(header)) from error
    return places


def _gone() -> ProblemError:
    return ProblemError(
        404, "unknown-connection", "No such connection", "it is not open, or not any more; open a stream anew"
    )


def _unchanged(detail: str) -> ProblemError:
    return ProblemError(
        503, "connection-busy", "The connection cannot be changed now", detail, headers={"Retry-After": "2"}
    )
