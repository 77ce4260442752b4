"""What happened: events of all times, by what they are about, from the log and the archive."""

import asyncio
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Query, Response
from pydantic_core import from_json
from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.archive.archive import Archive, SlowSearchError
from core.log.archive.belonging import sources_lacking
from core.log.archive.parquet import SegmentFileError
from core.log.archive.rows import Row
from core.log.archive.store import StoreAwayError
from core.log.archive.wanted import Place, Wanted
from core.log.history import History
from core.log.keys import Keys
from core.runtime.logs import get_logger
from core.runtime.problems import ProblemError, invalid_fields
from pipai_contracts.events import EventType
from pipai_contracts.history import HistoryEvent, HistoryPage
from pipai_contracts.ids import Kind, ResourceId
from pipai_contracts.problems import FieldProblem
from pipai_contracts.record import StreamId
from pipai_contracts.times import format_millis, millis_of
from pipai_contracts.upcast import NewerVersionError
from services.api.access import Asking
from services.api.streams import unavailable

_ASK_AGAIN: Final = 10.0

log = get_logger()

_PLACE: Final = re.compile(r"(\d{1,15}-\d{1,19})@([a-z:]{1,40})@(.*)")

From = Annotated[str | None, Query(alias="from", description="RFC 3339 time: events appended then or later.")]
To = Annotated[str | None, Query(description="RFC 3339 time: events appended before.")]
After = Annotated[str | None, Query(description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many events at most.")]


def history_routes(history: History) -> APIRouter:
    """The endpoints for who looks for what happened."""
    router = APIRouter(tags=["history"])

    @router.get("/history/events")
    async def events(  # noqa: PLR0913 - one for each parameter of the query
        *,
        asking: Asking,
        response: Response,
        kind: Annotated[Kind | None, Query(description="Kind of the events' topic.")] = None,
        id: Annotated[ResourceId | None, Query(description="Id of their topic.")] = None,  # noqa: A002 - its name
        user: Annotated[ResourceId | None, Query(description="Who owns their topic, or whom they are about.")] = None,
        type: Annotated[EventType | None, Query(description="What they are.")] = None,  # noqa: A002 - its name
        correlation: Annotated[ResourceId | None, Query(description="What they all came of.")] = None,
        since: From = None,
        to: To = None,
        after: After = None,
        limit: Limit = 100,
    ) -> HistoryPage:
        """Events in the order of the log, each once, whether Redis still has them or the archive."""
        response.headers["Cache-Control"] = "no-store, private"
        begin, end = _moment(since, "query.from"), _moment(to, "query.to")
        wanted = Wanted(asking.tenant, kind, id, user, type, correlation, begin, end)
        place = _place(after)
        with archive_refusals():
            rows = await history.find(wanted, after=place, limit=limit + 1)
        page, more = rows[:limit], len(rows) > limit
        return HistoryPage(events=[_event(row) for row in page], next=_name(page[-1]) if more else None)

    _ = events
    return router


@contextmanager
def archive_refusals() -> Generator[None]:
    """Tell why the history cannot be read.

    Raises:
        ProblemError: Redis or the archive is away, a segment is damaged, or it takes too long (503).
    """
    try:
        yield
    except RedisError as error:
        raise unavailable() from error
    except SlowSearchError as error:
        what = "The archive has too much to look through for that: narrow it down with from and to."
        raise ProblemError(503, "archive-slow", "The search takes too long", what) from error
    except NewerVersionError as error:
        what = f"It was written by a newer build than this one: {error}"
        raise ProblemError(503, "newer-version", "An event cannot be read", what) from error
    except (StoreAwayError, SegmentFileError) as error:
        what = "away" if isinstance(error, StoreAwayError) else "damaged, or changes faster than it can be read"
        raise ProblemError(
            503,
            "archive-unavailable",
            "The archive cannot be read",
            f"What Redis no longer has cannot be found now: the archive is {what}. Try again.",
            headers={"Retry-After": "5"},
        ) from error


async def tell_of_another_archive(redis: Redis, keys: Keys, archive: Archive) -> None:
    """Log it when this is not the archive that is written: events that only that one has would seem to be none.

    Asks until Redis and the store have answered once.
    """
    while True:
        try:
            lacking = await sources_lacking(redis, keys, archive)
            break
        except (RedisError, StoreAwayError):
            await asyncio.sleep(_ASK_AGAIN)
    if lacking:
        what = "ARCHIVE_URL and ARCHIVE_SPOOL have to be here what they are for the archiver: old events are not found"
        log.error("the archive here is not the deployment's", sources=lacking, what=what)


def _event(row: Row) -> HistoryEvent:
    fields = None if row.data is None else cast("dict[str, Any]", from_json(row.data))
    return HistoryEvent(
        event_id=row.event_id,
        stream=row.stream,
        stream_id=str(row.stream_id),
        topic=row.topic,
        offset=row.offset,
        time=None if row.time is None else format_millis(row.time),
        event=row.type,
        v=row.v,
        data=fields,
        user_id=row.user_id,
        run_id=row.run_id,
        correlation_id=row.correlation_id,
        causation_id=row.causation_id,
        parked=row.parked,
    )


def _moment(text: str | None, where: str) -> int | None:
    """Milliseconds since 1970.

    Raises:
        ProblemError: it is no RFC 3339 time (422).
    """
    if text is None:
        return None
    try:
        return millis_of(text)
    except ValueError as error:
        raise invalid_fields([FieldProblem(where=where, what=str(error))]) from error


def _name(row: Row) -> str:
    return f"{row.stream_id}@{row.stream}@{row.topic or ''}"


def _place(text: str | None) -> Place | None:
    """What ``next`` of a page said.

    Raises:
        ProblemError: it was nothing that `next` says (422).
    """
    if text is None:
        return None
    found = _PLACE.fullmatch(text)
    if found is None:
        what = "must be what next of the page before said"
        raise invalid_fields([FieldProblem(where="query.after", what=what)])
    return Place(StreamId.parse(found[1]), found[2], found[3])
