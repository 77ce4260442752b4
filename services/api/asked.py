"""What a viewer asks of a stream: where it begins, and how it is shaped."""

import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal, NamedTuple, cast, get_args

from fastapi import Depends, Header, Query, Request
from pydantic import ValidationError

from core.runtime.problems import ProblemError, invalid_fields
from pipai_contracts.cursor import Cursor, InvalidCursorError
from pipai_contracts.events import EventType
from pipai_contracts.frames import Milliseconds, Shaping
from pipai_contracts.problems import FieldProblem
from pipai_contracts.times import millis_of
from services.api.compression import accepts_gzip

LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", description="Cursor to resume after.")]
CursorParameter = Annotated[
    str | None, Query(alias="cursor", description="The same, for clients that cannot set headers.")
]
AcceptEncoding = Annotated[str | None, Header(include_in_schema=False)]
FromParameter = Annotated[
    str | None,
    Query(
        alias="from",
        description="Where a first connection begins: `snapshot` (the default: the state, then what comes), `live`"
        " (only what comes), `beginning`, a position (that event is the first), or an RFC 3339 time (the first event"
        " appended then or later). Of no effect beside a cursor.",
        examples=["beginning", "17", "2025-01-01T00:00:00Z"],
    ),
]
ThrottleParameter = Annotated[
    Milliseconds | None,
    Query(
        description="Milliseconds. Of progress send the latest of each step, this often, and texts joined. The end of a"
        " run, errors and notifications come at once."
    ),
]
BatchParameter = Annotated[
    Milliseconds | None,
    Query(description="Milliseconds. Events of so long come together, as one message `batch` with an array of them."),
]
TypesParameter = Annotated[
    list[str] | None,
    Query(
        description="Event types to be sent, separated by commas; all others are left out.",
        examples=["workflow_progress,notification"],
    ),
]

_NAMES: Final = frozenset({"cursor", "from", "throttle_ms", "batch_ms", "types"})
_TYPES: Final = get_args(EventType)
_POSITION: Final = re.compile(r"[1-9][0-9]{0,14}", re.ASCII)
_PLUS_LOST: Final = re.compile(r" (?=\d\d:\d\d$)", re.ASCII)


class FromPosition(NamedTuple):
    """Begin with the event that has this position."""

    pos: int


class FromTime(NamedTuple):
    """Begin with the first event appended then or later; milliseconds since 1970."""

    milliseconds: int


Start = Literal["beginning", "live", "snapshot"] | FromPosition | FromTime


class Asked(NamedTuple):
    """``cursor``: come back after it; ``start``: where to begin without one."""

    cursor: Cursor | None
    start: Start
    shaping: Shaping
    gzip: bool
    """Whether the client takes the stream compressed."""


async def read_wishes(
    *,
    start: FromParameter = None,
    throttle_ms: ThrottleParameter = None,
    batch_ms: BatchParameter = None,
    types: TypesParameter = None,
    accept_encoding: AcceptEncoding = None,
) -> Asked:
    """What the request says of a stream, whatever it is of; no cursor.

    Raises:
        ProblemError: a parameter makes no sense (422).
    """
    shaping = Shaping(throttle_ms=throttle_ms, batch_ms=batch_ms, types=parse_types(types))
    return Asked(None, parse_start(start), shaping, gzip=accepts_gzip(accept_encoding))


Wishes = Annotated[Asked, Depends(read_wishes)]


async def read_asked(wishes: Wishes, last_event_id: LastEventId = None, cursor: CursorParameter = None) -> Asked:
    """The same of a stream of one topic.

    Raises:
        ProblemError: the cursor is none (400).
    """
    return wishes._replace(cursor=parse_cursor(last_event_id, cursor))


def asked_plainly(request: Request) -> Asked | None:
    """The same of a request that has each parameter and header once, without the framework, which takes far longer.

    None for any other request: the framework is to read it, and to say what is wrong.

    Raises:
        ProblemError: a parameter makes no sense (422), or the cursor is none (400).
    """
    items, headers = request.query_params.multi_items(), request.headers
    said = dict(items)
    if not _NAMES.issuperset(said) or len(said) < len(items):
        return None
    if any(len(headers.getlist(name)) > 1 for name in ("last-event-id", "accept-encoding")):
        return None
    times = {name: said[name] for name in ("throttle_ms", "batch_ms") if name in said}
    try:
        shaping = Shaping.model_validate({**times, "types": parse_types([said["types"]] if "types" in said else None)})
    except ValidationError:
        return None
    cursor = parse_cursor(headers.get("last-event-id"), said.get("cursor"))
    return Asked(cursor, parse_start(said.get("from")), shaping, gzip=accepts_gzip(headers.get("accept-encoding")))


AskedOfStream = Annotated[Asked, Depends(read_asked)]


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
        raise invalid_cursor(error, cursor_place(header)) from error


def cursor_place(header: str | None) -> str:
    """Where the place to resume after was found."""
    return "header.Last-Event-ID" if header else "query.cursor"


def invalid_cursor(error: ValueError, where: str) -> ProblemError:
    """The refusal (400) of what is no cursor."""
    return ProblemError(
        400, "invalid-cursor", "Not a cursor", f"{where}: {error}", errors=[FieldProblem(where=where, what=str(error))]
    )


def parse_start(text: str | None, where: str = "query.from") -> Start:
    """Where a first connection begins.

    Raises:
        ProblemError: it is nothing of what it may be (422).
    """
    if text is None or text in {"beginning", "live", "snapshot"}:
        return cast("Start", text or "snapshot")
    if _POSITION.fullmatch(text):
        return FromPosition(int(text))
    try:
        # A "+" that was not escaped arrives as a space.
        return FromTime(millis_of(_PLUS_LOST.sub("+", text)))
    except ValueError:
        what = "must be beginning, live, snapshot, a position from 1 on, or a time like 2025-01-01T00:00:00Z"
        raise invalid_fields([FieldProblem(where=where, what=what)]) from None


def parse_types(texts: Sequence[str] | None) -> tuple[EventType, ...] | None:
    """The event types asked for, each once; None when all are.

    Raises:
        ProblemError: one of them is none (422).
    """
    if texts is None:
        return None
    names = dict.fromkeys(name.strip() for text in texts for name in text.split(","))
    unknown = [name for name in names if name not in _TYPES]
    if unknown:
        what = f"has no event type {unknown[0][:80]!r}; there are {', '.join(_TYPES)}"
        raise invalid_fields([FieldProblem(where="query.types", what=what)])
    return cast("tuple[EventType, ...]", tuple(names))
