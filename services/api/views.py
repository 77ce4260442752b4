"""Views as JSON."""

from typing import Annotated

from fastapi import APIRouter, Header, Response
from pydantic_core import to_json
from redis.exceptions import RedisError

from core.runtime.http import PathId
from core.runtime.problems import ProblemError
from core.views.errors import UnreadableViewError
from core.views.folds import render
from core.views.past import Past
from core.views.stored import Snapshot
from pipai_contracts.history import PastView
from pipai_contracts.ids import Kind, Topic
from pipai_contracts.views import ViewAnswer
from services.api.access import Asking
from services.api.expired import ExpiredViews
from services.api.history import archive_refusals
from services.api.past import AtParameter, past_view
from services.api.sources import TopicSource
from services.api.streams import unavailable, unreadable


class ViewReader:
    """Reads views for who wants no stream; ``expired`` has those again that are gone, where there is an archive."""

    def __init__(self, source: TopicSource, expired: ExpiredViews | None) -> None:
        self._source = source
        self._expired = expired

    async def load(self, topic: Topic) -> Snapshot:
        """What the store has of the topic.

        Raises:
            ProblemError: Redis did not answer, or the stored view cannot be read (503).
        """
        try:
            return await self._source.snapshot(topic)
        except RedisError as error:
            raise unavailable() from error
        except UnreadableViewError as error:
            raise unreadable(error) from error

    async def find(self, topic: Topic) -> Snapshot:
        """The same; a view that has expired is folded again first.

        Raises:
            ProblemError: likewise, or the archive cannot be read now (503).
        """
        snapshot = await self.load(topic)
        if snapshot.state is not None or self._expired is None:
            return snapshot
        with archive_refusals():
            await self._expired.bring_back(topic)
        return await self.load(topic)


def view_routes(reader: ViewReader, shown: Past) -> APIRouter:
    """The endpoint for who wants the state, as it is or as it was, without a stream."""
    router = APIRouter(tags=["views"])

    @router.get("/views/{kind}/{resource_id}", response_model=ViewAnswer | PastView)
    async def view(
        asking: Asking,
        kind: Kind,
        resource_id: PathId,
        at: AtParameter = None,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        """The topic's view and the cursor that goes on from it; 304 when the ETag still holds. With `at`, as it was."""
        topic = asking.topic(kind, resource_id)
        if at is not None:
            past = to_json(await past_view(shown, topic, at))
            return Response(past, media_type="application/json", headers={"Cache-Control": "no-store, private"})
        snapshot = await reader.find(topic)
        if snapshot.state is None:
            raise unknown_topic(topic)
        etag = f'"{snapshot.cursor}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache, private"}
        if is_current(etag, if_none_match):
            return Response(status_code=304, headers=headers)
        answer = ViewAnswer(kind=kind, id=resource_id, cursor=str(snapshot.cursor), view=render(snapshot.state))
        return Response(to_json(answer), media_type="application/json", headers=headers)

    _ = view
    return router


def is_current(etag: str, if_none_match: str | None) -> bool:
    """Whether the client has what ``etag`` names."""
    # A gateway that compresses makes the ETag a weak one: W/"…".
    return if_none_match is not None and etag in {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}


def unknown_topic(topic: Topic) -> ProblemError:
    """The refusal (404) of a topic without a view."""
    return ProblemError(404, "unknown-topic", "Nothing was published here", f"nobody published to {topic.name!r} yet")
