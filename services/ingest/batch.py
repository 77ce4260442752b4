"""Many events in one request: each is taken or refused by itself."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from core.log.append import MAX_PER_CALL
from core.log.errors import LogUnavailableError
from core.runtime.clock import now
from core.runtime.problems import ProblemError
from pipai_contracts.batch import MAX_BATCH_BYTES, BatchAnswer, BatchItem, Counts, Item, seal_item
from pipai_contracts.envelope import EventTooLargeError
from pipai_contracts.sealed import Sealed
from services.ingest.bodies import JSON, Room, described, read_bounded, require_type
from services.ingest.idempotency import DESCRIBED, batch_key, bind_key, numbered
from services.ingest.items import in_array, in_lines, read_item
from services.ingest.made_ids import made_id
from services.ingest.metrics import REJECTED_EVENTS
from services.ingest.publisher import Publisher, Started
from services.ingest.refusals import CountedRoute, documented, reason_of, too_large, unavailable

NDJSON: Final = "application/x-ndjson"

ROOM: Final = 4 * MAX_BATCH_BYTES
"""Bytes of batches that one endpoint of a process holds at once."""

SLICE: Final = MAX_PER_CALL
"""Events that are checked and sent together: what one call takes."""

_SLICES_AHEAD: Final = 2
"""Slices of a batch on their way at once. With one Redis would wait while the next is made ready, with more others
would wait longer for their turn."""

_TURN_SECONDS: Final = 0.001
"""How long events are checked before it is the turn of others, and of what Redis answered."""

Read = Callable[[object, str], Item]


def batch_router(publisher: Publisher) -> APIRouter:
    """``POST /stream/publish/batch``."""
    router = APIRouter(prefix="/stream/publish", tags=["publish"], route_class=CountedRoute)
    room = Room(ROOM)

    @router.post(
        "/batch",
        response_model=BatchAnswer,
        responses=documented(400, 408, 413, 415, 422, 503),
        openapi_extra={**described({JSON: list[BatchItem], NDJSON: BatchItem}), **DESCRIBED},
    )
    async def batch(request: Request) -> Response:
        """Up to 10,000 events in 16 MiB, as a JSON array or a line each.

        One that is refused does not keep out the others. Events of one topic are stored in their order here; those
        after one that could not be stored are not tried.
        """
        kind = require_type(request, JSON, NDJSON)
        key = batch_key(request)
        with room.share() as take:
            body = await read_bounded(request, MAX_BATCH_BYTES, take)
            values = in_array(body) if kind == JSON else in_lines(body)
            if key is not None:
                await bind_key(publisher, "batch", key, body)
            return await append_all(publisher, values, read_item, key)

    _ = batch  # called through the router only
    return router


async def append_all(publisher: Publisher, values: Sequence[object], read: Read, key: str | None = None) -> Response:
    """Append what ``read`` makes of the values and say what became of each.

    Raises:
        ProblemError: 503, not one of them may be stored, for no fault of theirs.
    """
    batch = _Batch(publisher, read, key)
    await batch.append(values)
    counts = batch.counts()
    if batch.error is not None and counts["unavailable"] == len(values):
        raise unavailable(batch.error) from batch.error
    return Response(to_json({"counts": counts, "outcomes": batch.outcomes}), media_type=JSON)


class _Batch:
    """The events of one request and what became of each, as `BatchAnswer` describes it."""

    def __init__(self, publisher: Publisher, read: Read, key: str | None) -> None:
        self.outcomes: list[dict[str, Any]] = []
        self.error: LogUnavailableError | None = None
        self._publisher = publisher
        self._read = read
        self._key = key
        self._now = now()

    async def append(self, values: Sequence[object]) -> None:
        """Slice by slice. While Redis has one, the next waits for it already and the one after is checked."""
        self.outcomes = [{}] * len(values)
        on_their_way: deque[_Slice] = deque()
        try:
            await self._publisher.prepare()
        except LogUnavailableError as error:
            self.error = error
        for start in range(0, len(values), SLICE):
            events = await self._check(values, start)
            if len(on_their_way) == _SLICES_AHEAD:
                await self._settle(on_their_way.popleft())
            on_their_way.append(self._send(events, on_their_way))
        for sent in on_their_way:
            await self._settle(sent)

    def counts(self) -> dict[str, int]:
        """How many came to what."""
        found = Counter(outcome["status"] for outcome in self.outcomes)
        return {status: found[status] for status in Counts.model_fields}

    async def _check(self, values: Sequence[object], start: int) -> dict[int, Sealed]:
        """The slice's events by index; what is none is refused. Large ones take long, so others have turns between."""
        events: dict[int, Sealed] = {}
        began = time.perf_counter()
        for index in range(start, min(start + SLICE, len(values))):
            try:
                events[index] = self._seal(values[index], index)
            except ProblemError as error:
                self._refuse(index, "invalid", error)
                REJECTED_EVENTS.labels(reason_of(error)).inc()
            if time.perf_counter() - began > _TURN_SECONDS:
                await asyncio.sleep(0)
                began = time.perf_counter()
        return events

    def _seal(self, value: object, index: int) -> Sealed:
        where = f"body.{index}"
        if isinstance(value, ProblemError):
            raise value
        try:
            event = seal_item(self._read(value, where), new_id=made_id(), now=self._now)
        except EventTooLargeError as error:
            raise too_large(where, str(error)) from error
        return numbered(event, self._key, index)

    def _send(self, events: dict[int, Sealed], before: Iterable["_Slice"]) -> "_Slice":
        """Send the slice's events, unless one before them could not be stored: they would overtake it."""
        self.error = self.error or next((error for sent in before if (error := _failure(sent.started))), None)
        if self.error is None:
            return _Slice(list(events), self._publisher.start(list(events.values())))
        return _Slice(list(events), [(event, self.error) for event in events.values()])

    async def _settle(self, sent: "_Slice") -> None:
        """Note what became of the events of a slice."""
        for index, answer in zip(sent.indexes, await self._publisher.finish(sent.started), strict=True):
            if isinstance(answer, LogUnavailableError):
                self.error = answer
                self._refuse(index, "unavailable", unavailable(answer))
            else:
                status = "duplicate" if answer.duplicate else "appended"
                self.outcomes[index] = {"status": status, **answer.__dict__}

    def _refuse(self, index: int, status: str, error: ProblemError) -> None:
        self.outcomes[index] = {"status": status, "error": error.problem.model_dump(exclude_defaults=True)}


class _Slice(NamedTuple):
    """Events on their way, and at which index each stood."""

    indexes: list[int]
    started: list[Started]


def _failure(started: Sequence[Started]) -> LogUnavailableError | None:
    """Why one of the events may not be stored, as far as that is known."""
    for _, answer in started:
        told = answer.result() if isinstance(answer, asyncio.Future) and answer.done() else answer
        if isinstance(told, LogUnavailableError):
            return told
    return None
