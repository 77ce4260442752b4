"""Streams of many topics on one connection."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Query, Response
from redis.exceptions import RedisError

from core.runtime.problems import ProblemError, invalid_fields
from core.views.errors import UnreadableViewError
from pipai_contracts.cursor import Cursor
from pipai_contracts.frames import Shaping
from pipai_contracts.ids import DEFAULT_TENANT, Topic
from pipai_contracts.many import MAX_ADDRESS_TOPICS, ManyTopics, TopicsAnswer, TopicsChange
from pipai_contracts.problems import FieldProblem
from pipai_contracts.vector import InvalidVectorError, Vector, parse_topic
from services.api.asked import (
    AcceptEncoding,
    BatchParameter,
    CursorParameter,
    LastEventId,
    ThrottleParameter,
    TypesParameter,
    parse_types,
)
from services.api.audience import Audience
from services.api.compression import accepts_gzip
from services.api.connections import Connections, UnknownConnectionError
from services.api.inbox import Inbox
from services.api.settings import ApiSettings
from services.api.stream_response import StreamResponse
from services.api.streams import STREAM, nothing_left, unavailable, unreadable

TopicParameter = Annotated[
    list[str], Query(alias="topic", description="A topic to watch, like `workflow:w1`; 1 to 20 of them.")
]
_GONE: Final[dict[int | str, dict[str, Any]]] = {404: {"description": "The connection is not open any more."}}


async def read_shaping(
    throttle_ms: ThrottleParameter = None, batch_ms: BatchParameter = None, types: TypesParameter = None
) -> Shaping:
    """How the request's query has the stream shaped.

    Raises:
        ProblemError: it makes no sense (422).
    """
    return Shaping(throttle_ms=throttle_ms, batch_ms=batch_ms, types=parse_types(types))


def many_stream_routes(connections: Connections, audience: Audience, settings: ApiSettings) -> APIRouter:
    """The endpoints."""
    router = APIRouter(tags=["streams"], prefix="/stream")

    async def stream(
        places: Mapping[Topic, Cursor | None], shaping: Shaping, encodings: str | None, address: list[Topic] | None
    ) -> Response:
        audience.check_room()
        try:
            channels = await connections.open_channels(places)
        except RedisError as error:
            raise unavailable() from error
        except UnreadableViewError as error:
            raise unreadable(error) from error
        cursors = [(channel, places[topic]) for topic, channel in channels.items()]
        if all([cursor is not None and await nothing_left(channel, cursor) for channel, cursor in cursors]):
            return Response(status_code=204, headers={"Cache-Control": "no-store"})
        return StreamResponse(
            lambda outlet: connections.serve(outlet, places, shaping, address),
            audience.shutdown,
            gzip=settings.stream_compression and accepts_gzip(encodings),
        )

    @router.get("", response_class=Response, responses=STREAM)
    async def stream_topics(
        topic: TopicParameter,
        shaping: Annotated[Shaping, Depends(read_shaping)],
        last_event_id: LastEventId = None,
        cursor: CursorParameter = None,
        accept_encoding: AcceptEncoding = None,
    ) -> Response:
        """Many topics on one connection, for EventSource: each event's id is the place in all of them."""
        address = _read_topics(topic)
        places = _read_places(address, last_event_id, cursor)
        return await stream(places, shaping, accept_encoding, address)

    @router.post("", response_class=Response, responses=STREAM)
    async def stream_listed(body: Annotated[ManyTopics, Body()], accept_encoding: AcceptEncoding = None) -> Response:
        """Many topics on one connection, for fetch clients: each event's id is its topic and its place there."""
        places = {
            parse_topic(DEFAULT_TENANT, name): None if cursor is None else Cursor.parse(cursor)
            for name, cursor in body.places().items()
        }
        types = None if body.types is None else tuple(dict.fromkeys(body.types))
        shaping = Shaping(throttle_ms=body.throttle_ms, batch_ms=body.batch_ms, types=types)
        return await stream(places, shaping, accept_encoding, None)

    _ = (stream_topics, stream_listed)
    return router


def connection_routes(changes: Inbox) -> APIRouter:
    """What can be done with a connection that is open."""
    router = APIRouter(tags=["streams"], prefix="/stream/connections")

    @router.post("/{connection_id}/topics", responses=_GONE)
    async def change_topics(connection_id: str, body: Annotated[TopicsChange, Body()]) -> TopicsAnswer:
        """Have an open connection watch more topics, and others no longer. Any process takes it."""
        try:
            outcome = await changes.make(connection_id, body)
        except UnknownConnectionError as error:
            raise _gone() from error
        except RedisError as error:
            raise unavailable() from error
        if outcome is None:
            raise _silent()
        if outcome.topics is None:
            raise invalid_fields([FieldProblem(where="body", what=str(outcome.refusal))])
        return TopicsAnswer(topics=outcome.topics)

    _ = change_topics
    return router


def _read_topics(names: list[str]) -> list[Topic]:
    """The topics of an address; one that is named twice counts once.

    Raises:
        ProblemError: too many, or one is none (422).
    """
    if len(names) > MAX_ADDRESS_TOPICS:
        what = f"{len(names)} topics; {MAX_ADDRESS_TOPICS} at most, POST /stream takes more"
        raise invalid_fields([FieldProblem(where="query.topic", what=what)])
    try:
        return list(dict.fromkeys(parse_topic(DEFAULT_TENANT, name) for name in names))
    except ValueError as error:
        raise invalid_fields([FieldProblem(where="query.topic", what=str(error))]) from error


def _read_places(address: list[Topic], header: str | None, parameter: str | None) -> dict[Topic, Cursor | None]:
    """The topics with their cursors, as the vector the client comes back with has them.

    Raises:
        ProblemError: it is no vector of these topics (400).
    """
    text = header or parameter
    if not text:
        return dict.fromkeys(address)
    try:
        places = Vector.parse(text).of(address)
        return {parse_topic(DEFAULT_TENANT, name): cursor for name, cursor in places.items()}
    except InvalidVectorError as error:
        problem = str(error)
    except ValueError as error:
        problem = f"names a topic that is none: {error}"
    where = "header.Last-Event-ID" if header else "query.cursor"
    raise ProblemError(
        400, "invalid-cursor", "Not a vector of cursors", problem, errors=[FieldProblem(where=where, what=problem)]
    )


def _gone() -> ProblemError:
    return ProblemError(404, "unknown-connection", "No such connection", "it is not open, or not any more")


def _silent() -> ProblemError:
    return ProblemError(
        503,
        "connection-silent",
        "The connection cannot be changed",
        "the process that serves it does not answer; nothing is known of the change",
        headers={"Retry-After": "2"},
    )
