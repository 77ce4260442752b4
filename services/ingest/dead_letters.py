"""Dead letters over HTTP: what could not be projected, and what becomes of it."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter, Path, Query, Request, Response
from prometheus_client import Counter
from pydantic import Field

from core.log.errors import LogUnavailableError, UnknownLetterError, UnknownSourceError
from core.log.keys import Source
from core.log.letters import Letters
from core.log.redrive import Resolved, Resolver, Tally
from core.runtime.http import PathId
from pipai_contracts.dead_letters import (
    ChosenLetters,
    DeadLetter,
    DeadLetterPage,
    LetterFilter,
    LetterId,
    Purged,
    Redriven,
)
from services.ingest.bodies import JSON, described, read_model
from services.ingest.metrics import DEAD_LETTERS, OLDEST_DEAD_LETTER, PURGED, REDRIVEN
from services.ingest.publisher import TIMEOUT
from services.ingest.refusals import CountedRoute, documented, invalid_field, log_away, unknown_letter

MEASURE_INTERVAL: Final = 5.0
"""Seconds between two counts of the dead letters."""

MAX_PAGE: Final = 200


class PageQuery(LetterFilter):
    """Which letters to list, and from where on."""

    after: Annotated[str | None, Field(max_length=200)] = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50


def dead_letters_router(letters: Letters, resolver: Resolver) -> APIRouter:
    """Routes below ``/stream/dead-letters``.

    They show and change events of every tenant: access control belongs here, on the router, for operators only.
    """
    router = APIRouter(prefix="/stream/dead-letters", tags=["dead letters"], route_class=CountedRoute)
    _add_reading(router, letters)
    _add_resolving(router, letters, resolver)
    return router


def _add_reading(router: APIRouter, letters: Letters) -> None:
    @router.get("", response_model=DeadLetterPage, responses=documented(422, 503))
    async def list_letters(query: Annotated[PageQuery, Query()]) -> Response:
        """Dead letters, page by page, without the fields of their events."""
        with _refusing("query"):
            try:
                async with asyncio.timeout(TIMEOUT):
                    page = await letters.page(query, after=query.after, limit=query.limit)
            except ValueError as error:
                raise invalid_field("query.after", str(error)) from error
        return _json(page.model_dump_json(exclude={"letters": {"__all__": {"fields"}}}))

    @router.get("/{source}/{letter_id}", response_model=DeadLetter, responses=documented(404, 422, 503))
    async def show_letter(source: PathId, letter_id: Annotated[LetterId, Path()]) -> Response:
        """One dead letter, with its event as it was stored."""
        with _refusing("path"):
            async with asyncio.timeout(TIMEOUT):
                letter = await letters.find(letters.partition(source), letter_id)
        return _json(letter.model_dump_json())

    _ = (list_letters, show_letter)  # called through the router only


def _add_resolving(router: APIRouter, letters: Letters, resolver: Resolver) -> None:
    changing: dict[str, Any] = {
        "responses": documented(400, 404, 408, 413, 415, 422, 503),
        "openapi_extra": described({JSON: ChosenLetters}),
    }

    @router.post("/redrive", **changing)
    async def redrive(request: Request) -> Redriven:
        """Append the events of dead letters again, as new events, and delete the letters."""
        chosen = await read_model(request, ChosenLetters)
        resolved = await _resolve(letters, chosen, resolver.redrive, resolver.redrive_named)
        _count(resolved, REDRIVEN)
        done, refused, gone, already = resolved.total
        return Redriven(redriven=done, refused=refused, gone=gone, already=already, more=resolved.more)

    @router.post("/purge", **changing)
    async def purge(request: Request) -> Purged:
        """Delete dead letters for good."""
        chosen = await read_model(request, ChosenLetters)
        resolved = await _resolve(letters, chosen, resolver.purge, resolver.purge_named)
        _count(resolved, PURGED)
        return Purged(purged=resolved.total.done, gone=resolved.total.gone, more=resolved.more)

    _ = (redrive, purge)  # called through the router only


async def measure_dead_letters(letters: Letters) -> None:
    """Bring the gauges up to date.

    Raises:
        LogUnavailableError: Redis did not answer.
    """
    for census in await letters.census():
        DEAD_LETTERS.labels(census.source.name).set(census.count)
        OLDEST_DEAD_LETTER.labels(census.source.name).set(census.oldest)


class _ByFilter(Protocol):
    async def __call__(self, wanted: LetterFilter, *, limit: int) -> Resolved: ...


class _ByName(Protocol):
    async def __call__(self, source: Source, letter_ids: Sequence[str]) -> Tally: ...


async def _resolve(letters: Letters, chosen: ChosenLetters, by_filter: _ByFilter, by_name: _ByName) -> Resolved:
    """Deal with the letters the request means; those it names must not all be unknown."""
    with _refusing("body"):
        if chosen.ids is None or chosen.source is None:
            return await by_filter(chosen, limit=chosen.limit)
        source = letters.partition(chosen.source)
        tally = await by_name(source, chosen.ids)
    if tally.gone == sum(tally):
        raise unknown_letter(f"body.ids: none of these is a dead letter of {source.name}")
    return Resolved({source.name: tally}, more=False)


def _count(resolved: Resolved, counter: Counter) -> None:
    for source, tally in resolved.by_source.items():
        counter.labels(source).inc(tally.done)


@contextmanager
def _refusing(part: str) -> Generator[None]:
    """What may go wrong while ``part`` of the request is carried out, as problem reports."""
    try:
        yield
    except UnknownLetterError as error:
        raise unknown_letter(str(error)) from error
    except UnknownSourceError as error:
        raise invalid_field(f"{part}.source", str(error)) from error
    except (LogUnavailableError, TimeoutError) as error:
        raise log_away() from error


def _json(text: str) -> Response:
    return Response(text, media_type="application/json")
