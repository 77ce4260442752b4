"""Views and feeds as JSON."""

from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Query, Response
from pydantic_core import from_json, to_json
from redis.exceptions import RedisError

from core.runtime.http import PathId
from core.runtime.problems import ProblemError
from core.views.errors import UnreadableViewError
from core.views.folds import render
from core.views.store import FeedItem, ViewStore
from core.views.stored import Snapshot
from pipai_contracts.cursor import Cursor, InvalidCursorError
from pipai_contracts.ids import DEFAULT_TENANT, Kind, Topic
from pipai_contracts.problems import FieldProblem
from pipai_contracts.views import EventsAnswer, FeedEvent, ViewAnswer
from services.api.sources import TopicSource
from services.api.streams import unavailable, unreadable

After = Annotated[str, Query(description="Cursor, or a position as a number; 0 for the beginning.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many events at most.")]


def view_routes(source: TopicSource, store: ViewStore) -> APIRouter:
    """Endpoints for who wants the state, or the history, without a stream."""
    router = APIRouter(tags=["views"])

    async def load(topic: Topic) -> Snapshot:
        try:
            snapshot = await source.snapshot(topic)
        except RedisError as error:
            raise unavailable() from error
        except UnreadableViewError as error:
            raise unreadable(error) from error
        if snapshot.state is None:
            raise ProblemError(
                404, "unknown-topic", "Nothing was published here", f"nobody published to {topic.name!r} yet"
            )
        return snapshot

    @router.get("/views/{kind}/{resource_id}", response_model=ViewAnswer)
    async def view(kind: Kind, resource_id: PathId, if_none_match: Annotated[str | None, Header()] = None) -> Response:
        """The topic's view and the cursor that goes on from it; 304 when the ETag still holds."""
        snapshot = await load(Topic(DEFAULT_TENANT, kind, resource_id))
        etag = f'"{snapshot.cursor}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache, private"}
        if is_current(etag, if_none_match):
            return Response(status_code=304, headers=headers)
        if snapshot.state is None:
            raise RuntimeError("a loaded snapshot has a state")
        answer = ViewAnswer(kind=kind, id=resource_id, cursor=str(snapshot.cursor), view=render(snapshot.state))
        return Response(to_json(answer), media_type="application/json", headers=headers)

    @router.get("/events/{kind}/{resource_id}")
    async def events(kind: Kind, resource_id: PathId, after: After = "0", limit: Limit = 100) -> EventsAnswer:
        """The topic's events after a cursor or position, oldest first."""
        topic = Topic(DEFAULT_TENANT, kind, resource_id)
        snapshot = await load(topic)
        try:
            page = await store.read_feed(topic, after=_position(after, snapshot), count=limit)
        except RedisError as error:
            raise unavailable() from error
        epoch = snapshot.cursor.epoch
        more = bool(page) and page[-1].pos < snapshot.cursor.pos
        return EventsAnswer(
            events=[_feed_event(epoch, item) for item in page],
            next=str(Cursor(epoch, page[-1].pos)) if more else None,
        )

    _ = (view, events)
    return router


def is_current(etag: str, if_none_match: str | None) -> bool:
    """Whether the client has what ``etag`` names."""
    # A gateway that compresses makes the ETag a weak one: W/"…".
    return if_none_match is not None and etag in {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}


def _position(after: str, snapshot: Snapshot) -> int:
    """The position ``after`` means.

    Raises:
        ProblemError: it is neither cursor nor number (400), or of another epoch (410).
    """
    if after.isascii() and after.isdigit() and len(after) <= 15:  # noqa: PLR2004 - stream ids hold as much
        return int(after)
    try:
        cursor = Cursor.parse(after)
    except InvalidCursorError as error:
        what = f"{error}; a plain position works too"
        raise ProblemError(
            400, "invalid-cursor", "Not a cursor", what, errors=[FieldProblem(where="query.after", what=what)]
        ) from error
    if cursor.pos and cursor.epoch != snapshot.cursor.epoch:
        raise ProblemError(
            410, "cursor-expired", "The history began anew", f"the cursor is of another epoch; now at {snapshot.cursor}"
        )
    return cursor.pos


def _feed_event(epoch: str, item: FeedItem) -> FeedEvent:
    data = cast("dict[str, Any]", from_json(item.data))
    return FeedEvent(cursor=str(Cursor(epoch, item.pos)), pos=item.pos, event=item.event, data=data)
