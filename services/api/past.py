"""Views as they were, and what changed between two moments."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Final

import anyio.to_thread
from fastapi import APIRouter, Query, Response

from core.log.archive.segment import stream_of
from core.runtime.http import PathId
from core.runtime.problems import ProblemError, invalid_fields
from core.views import past
from core.views.changes import Changed, changes
from core.views.folds import render
from core.views.moments import AtPosition, AtTime, NothingYetError, PastError, TooManyStepsError, ViewAt
from core.views.past import Past
from pipai_contracts.history import ChangedValue, Moment, PastView, ViewDiff
from pipai_contracts.ids import Kind, Topic
from pipai_contracts.problems import FieldProblem
from pipai_contracts.record import Record
from pipai_contracts.times import millis_of
from services.api.access import Asking
from services.api.history import archive_refusals

_POSITION: Final = re.compile(r"\d{1,15}", re.ASCII)
_PLUS_LOST: Final = re.compile(r" (?=\d\d:\d\d$)", re.ASCII)
_NOW: Final = AtTime(2**53)

_WHEN: Final = "an RFC 3339 time (all events appended until then), or a position (so many of its events)"
AtParameter = Annotated[
    str | None, Query(description=f"The view as it was: {_WHEN}.", examples=["2025-01-01T00:00:00Z", "17"])
]
FromMoment = Annotated[str, Query(alias="from", description=f"The first moment: {_WHEN}, 0 being before the first.")]
ToMoment = Annotated[str | None, Query(alias="to", description=f"The second moment: {_WHEN}; now unless it is said.")]


def past_routes(shown: Past) -> APIRouter:
    """The endpoint for who asks what changed."""
    router = APIRouter(tags=["history"])

    @router.get("/views/{kind}/{resource_id}/diff")
    async def diff(
        *,
        asking: Asking,
        response: Response,
        kind: Kind,
        resource_id: PathId,
        since: FromMoment,
        to: ToMoment = None,
    ) -> ViewDiff:
        """What is another in the view at the second moment than at the first, and by which event."""
        response.headers["Cache-Control"] = "no-store, private"
        first = parse_moment(since, "query.from")
        last = _NOW if to is None else parse_moment(to, "query.to")
        with past_refusals(), archive_refusals():
            begin, steps = await shown.between(asking.topic(kind, resource_id), first, last)
        after = [(moment.record, moment.state) for moment in steps if moment.record is not None]
        found = await anyio.to_thread.run_sync(changes, begin.state, after)
        places = {id(moment.record): moment for moment in steps}
        return ViewDiff(
            kind=kind,
            id=resource_id,
            since=_moment(begin),
            to=_moment(steps[-1] if steps else begin),
            events=len(steps),
            changes=[_changed(one, places[id(one.record)]) for one in found],
        )

    _ = diff
    return router


async def past_view(shown: Past, topic: Topic, text: str) -> PastView:
    """The topic's view at the moment ``text`` names.

    Raises:
        ProblemError: it is no moment (422), or one that cannot be shown (404, 410, 503).
    """
    at = parse_moment(text, "query.at")
    with past_refusals(), archive_refusals():
        moment = await shown.at(topic, at)
    return PastView(
        kind=topic.kind,
        id=topic.id,
        at=_moment(moment),
        cursor=None if moment.cursor is None else str(moment.cursor),
        view=render(moment.state),
    )


def parse_moment(text: str, where: str) -> past.At:
    """The moment a parameter names.

    Raises:
        ProblemError: it names none (422).
    """
    if _POSITION.fullmatch(text):
        return AtPosition(int(text))
    try:
        # A "+" that was not escaped arrives as a space.
        return AtTime(millis_of(_PLUS_LOST.sub("+", text)))
    except ValueError:
        what = "must be a position, or a time like 2025-01-01T00:00:00Z"
        raise invalid_fields([FieldProblem(where=where, what=what)]) from None


@contextmanager
def past_refusals() -> Generator[None]:
    """Tell why a moment cannot be shown.

    Raises:
        ProblemError: it is before the first event or after the newest (404), the history does not go back so far (410),
            or too much is between two moments (422).
    """
    try:
        yield
    except (NothingYetError, past.NotReachedError) as error:
        raise ProblemError(404, "no-such-moment", "There is no such moment", str(error)) from error
    except (TooManyStepsError, past.BackwardsError) as error:
        closer = "; choose them closer together" if isinstance(error, TooManyStepsError) else ""
        raise invalid_fields([FieldProblem(where="query.from", what=f"{error}{closer}")]) from error
    except PastError as error:
        raise ProblemError(410, "history-gone", "The history does not go back so far", str(error)) from error


def _moment(moment: ViewAt) -> Moment:
    record: Record | None = moment.record
    if record is None:
        return Moment(pos=moment.pos, event_id=None, stream=None, stream_id=None, event=None, time=None)
    return Moment(
        pos=moment.pos,
        event_id=record.envelope.event_id,
        stream=stream_of(record.source),
        stream_id=str(record.stream_id),
        event=record.envelope.event.type,
        time=record.stream_id.time,
    )


def _changed(one: Changed, moment: ViewAt) -> ChangedValue:
    pointer = "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in one.path)
    return ChangedValue(path=pointer, before=one.before, after=one.after, by=_moment(moment))
