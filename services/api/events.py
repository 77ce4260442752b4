"""A topic's events as JSON: its history page by page, and the next event when it comes."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request, Response
from pydantic_core import from_json
from redis.exceptions import RedisError

from core.runtime.http import PathId
from core.runtime.logs import get_logger
from core.runtime.problems import ProblemError
from core.views.store import ViewStore
from pipai_contracts.cursor import START, Cursor, InvalidCursorError
from pipai_contracts.ids import Kind, Topic
from pipai_contracts.problems import FieldProblem
from pipai_contracts.views import EventsAnswer, FeedEvent
from services.api.access import Asking
from services.api.audience import Audience
from services.api.hub import Hub
from services.api.messages import UNREADABLE, Message
from services.api.streams import open_channel, unavailable
from services.api.views import ViewReader, unknown_topic

After = Annotated[str, Query(description="Cursor, or a position as a number; 0 for the beginning.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many events at most.")]
Wait = Annotated[
    int,
    Query(
        ge=0,
        le=60,
        description="Seconds to wait for the first event where there is none after `after` yet. For who cannot have a"
        " stream: ask again with the newest cursor.",
    ),
]


log = get_logger()


def event_routes(views: ViewReader, store: ViewStore, hub: Hub, audience: Audience) -> APIRouter:
    """The endpoint for who wants events without a stream."""
    router = APIRouter(tags=["views"])
    reader = EventReader(views, store, hub, audience)

    @router.get("/events/{kind}/{resource_id}")
    async def events(  # noqa: PLR0913 - one for each parameter of the query
        *,
        asking: Asking,
        request: Request,
        response: Response,
        kind: Kind,
        resource_id: PathId,
        after: After = "0",
        limit: Limit = 100,
        wait: Wait = 0,
    ) -> EventsAnswer:
        """The topic's events after a cursor or position, oldest first; with `wait` the next one as soon as it comes."""
        response.headers["Cache-Control"] = "no-store, private"
        topic = asking.topic(kind, resource_id)
        if not wait:
            return await reader.page(topic, after, limit)
        return await reader.next(topic, after, limit, wait, lambda: _disconnected(request))

    _ = events
    return router


class EventReader:
    """Answers with what a topic's feed has, or with what its channel is told next."""

    def __init__(self, views: ViewReader, store: ViewStore, hub: Hub, audience: Audience) -> None:
        self._views = views
        self._store = store
        self._hub = hub
        self._audience = audience

    async def page(self, topic: Topic, after: str, limit: int) -> EventsAnswer:
        """What the feed has after ``after`` now.

        Raises:
            ProblemError: ``after`` cannot be used (400, 410), nobody published to the topic (404), or Redis is away
                (503).
        """
        snapshot = await self._views.find(topic)
        if snapshot.cursor == START:
            raise unknown_topic(topic)
        return (await self._read(topic, after, limit))[0]

    async def next(
        self, topic: Topic, after: str, limit: int, wait: int, gone: Callable[[], Awaitable[None]]
    ) -> EventsAnswer:
        """The same, or the first events that come within ``wait`` seconds; none when the asker is ``gone``.

        Raises:
            ProblemError: ``after`` cannot be used (400, 410), Redis is away (503), or there is no room (503).
        """
        self._audience.check_room()
        answer, cursor, pos = await self._read(topic, after, limit)
        if answer.events:
            return answer
        channel = await open_channel(self._hub, topic)
        here = channel.cursor
        if cursor == START and here.pos:
            # Published meanwhile; or the view has expired, and the channel will hear of it with the next event.
            answer, cursor, pos = await self._read(topic, after, limit)
            if answer.events or channel.cursor != here:
                return answer
        if here.epoch == cursor.epoch and pos < here.pos:
            told = channel.memory.after(pos)  # handed out while the store was asked
        else:
            self._audience.check_room()  # again: others came while the store was asked
            told = await self._audience.waiters.wait(channel, Cursor(cursor.epoch, pos) if pos else START, wait, gone)
        if told is None:
            answer, _, _ = await self._read(topic, after, limit)
            return answer
        if not told and self._hub.away:
            raise unavailable()  # nobody knows whether there was nothing
        return _told(told, limit)

    async def _read(self, topic: Topic, after: str, limit: int) -> tuple[EventsAnswer, Cursor, int]:
        """A page of the feed, the topic's cursor, and the position ``after`` means."""
        cursor = (await self._views.load(topic)).cursor
        pos = _position(after, cursor)
        if cursor == START:
            return EventsAnswer(events=[], next=None), cursor, pos
        try:
            page = await self._store.read_feed(topic, after=pos, count=limit)
            events = [_feed_event(Cursor(cursor.epoch, item.pos), item.event, item.data) for item in page]
        except RedisError as error:
            raise unavailable() from error
        except UNREADABLE as error:
            log.exception("feed cannot be read", topic=topic.path)
            what = f"what comes after query.after cannot be read; read the view, and go on after {cursor}"
            raise _expired(what) from error
        more = bool(page) and page[-1].pos < cursor.pos
        return EventsAnswer(events=events, next=events[-1].cursor if more else None), cursor, pos


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _position(after: str, cursor: Cursor) -> int:
    """The position ``after`` means in a topic that is at ``cursor``.

    Raises:
        ProblemError: it is neither cursor nor number (400), or of another epoch (410).
    """
    if after.isascii() and after.isdigit() and len(after) <= 15:  # noqa: PLR2004 - stream ids hold as much
        return int(after)
    try:
        place = Cursor.parse(after)
    except InvalidCursorError as error:
        what = f"{error}; a plain position works too"
        raise ProblemError(
            400,
            "invalid-cursor",
            "Not a cursor",
            f"query.after: {what}",
            errors=[FieldProblem(where="query.after", what=what)],
        ) from error
    if place.pos and place.epoch != cursor.epoch:
        raise _expired(f"query.after is of another epoch; read the view, and go on after {cursor}")
    return place.pos


def _expired(detail: str) -> ProblemError:
    return ProblemError(410, "cursor-expired", "The history began anew", detail)


def _told(messages: Sequence[Message], limit: int) -> EventsAnswer:
    events = [
        _feed_event(message.cursor, message.event, message.data)
        for message in messages[:limit]
        if message.cursor is not None
    ]
    return EventsAnswer(events=events, next=events[-1].cursor if len(messages) > limit else None)


def _feed_event(cursor: Cursor, event: str, data: bytes) -> FeedEvent:
    return FeedEvent(cursor=str(cursor), pos=cursor.pos, event=event, data=cast("dict[str, Any]", from_json(data)))
