"""Why ingest refuses a request: one problem type each, counted."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from core.log.errors import DamagedLogError, LogUnavailableError
from core.runtime.problems import ProblemError
from core.runtime.shortcuts import Endpoint
from pipai_contracts.problems import FieldProblem, Problem
from services.ingest.backlog import FullBacklogError
from services.ingest.metrics import REJECTED
from services.ingest.pipeline import FullPipelineError

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def counted(endpoint: Endpoint) -> Endpoint:
    """The endpoint of a shortcut, with its refusals counted by reason."""

    async def handle(request: Request, resource_id: str) -> Response | None:
        try:
            return await endpoint(request, resource_id)
        except ProblemError as error:
            REJECTED.labels(reason_of(error)).inc()
            raise

    return handle


def reason_of(error: ProblemError) -> str:
    """Why it was refused, in a word: the last part of the problem's type."""
    return error.problem.type.rpartition("/")[2]


class CountedRoute(APIRoute):
    """A route whose refusals are counted by reason."""

    def get_route_handler(self) -> Handler:
        """The route's handler with the counting around it."""
        handle: Callable[[Request], Awaitable[Response]] = super().get_route_handler()

        async def handle_counted(request: Request) -> Response:
            try:
                return await handle(request)
            except ProblemError as error:
                REJECTED.labels(reason_of(error)).inc()
                raise
            except RequestValidationError:
                REJECTED.labels("invalid").inc()
                raise

        return handle_counted


def wrong_content_type(expected: str, found: str) -> ProblemError:
    """415: the request's body is declared as something else."""
    what = f"must be {expected}, not {found[:100]!r}" if found else f"must be {expected}"
    return ProblemError(
        415,
        "content-type",
        "Wrong content type",
        f"Content-Type {what}",
        errors=[FieldProblem(where="header.content-type", what=what)],
    )


def bad_body(what: str, where: str = "body") -> ProblemError:
    """400: the body is not what its content type says."""
    return _wrong_at(where, what, 400, "bad-body", "The body cannot be read")


def invalid_field(where: str, what: str) -> ProblemError:
    """422: one field of the request is wrong."""
    return _wrong_at(where, what, 422, "invalid", "The request has invalid fields")


def key_reused() -> ProblemError:
    """422: the request's Idempotency-Key came with another body before."""
    what = "came with another body; repeat that one unchanged, or send what is new, or missing, under another key"
    return _wrong_at(
        "header.idempotency-key", what, 422, "key-reused", "The Idempotency-Key stands for another request"
    )


def too_large(where: str, what: str) -> ProblemError:
    """413: the request has more bytes than are taken."""
    return _wrong_at(where, what, 413, "too-large", "Too large")


def too_slow() -> ProblemError:
    """408: the rest of the body did not come; nothing of it was looked at."""
    return ProblemError(
        408,
        "too-slow",
        "The body did not come",
        "body: its rest did not come in time, and nothing of the request was stored. Send it again.",
        headers={"Connection": "close"},  # what may still come of the body would be taken for the next request
    )


def unsupported_file(what: str) -> ProblemError:
    """415: the file is of a kind nobody here can read."""
    return ProblemError(
        415,
        "unsupported-file",
        "The file cannot be analysed",
        what,
        errors=[FieldProblem(where="body.file", what=what)],
    )


def log_away() -> ProblemError:
    """503: Redis does not take events right now."""
    return ProblemError(
        503,
        "log-unavailable",
        "The event log is away",
        "Redis does not take events right now. Try again; an event_id keeps a repeat from counting twice.",
        headers={"Retry-After": "1"},
    )


def unavailable(error: LogUnavailableError) -> ProblemError:
    """503: why the log does not take events right now."""
    match error:
        case FullBacklogError():
            return ProblemError(
                503,
                "backlog",
                "Views or archive are too far behind",
                "More events than STREAM_BACKLOG_LIMIT are in no view, or not archived yet: projectors or the archiver "
                "are down or too slow. Try again.",
                headers={"Retry-After": "1"},
            )
        case DamagedLogError():
            return ProblemError(
                503,
                "log-damaged",
                "The event log is damaged",
                f"{error}. Until then no events are taken there.",
                headers={"Retry-After": "10"},
            )
        case FullPipelineError():
            return too_much_at_once()
        case _:
            return log_away()


def too_much_at_once() -> ProblemError:
    """503: what other requests brought has to be stored first."""
    return ProblemError(
        503,
        "busy",
        "Too much at once",
        "As many events wait to be stored as are kept in memory. Try again.",
        headers={"Retry-After": "1"},
    )


def temporal_away(why: str) -> ProblemError:
    """503: no workflow can be started right now."""
    return ProblemError(503, "temporal-unavailable", "Temporal is away", why, headers={"Retry-After": "5"})


def storage_away() -> ProblemError:
    """503: the file cannot be written right now."""
    return ProblemError(
        503,
        "storage-unavailable",
        "The storage is away",
        "The file could not be stored. Try again later.",
        headers={"Retry-After": "5"},
    )


def unknown_letter(what: str) -> ProblemError:
    """404: the dead letter is not there."""
    return ProblemError(404, "unknown-letter", "There is no such dead letter", what)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route for its OpenAPI description."""
    return {status: {"model": Problem} for status in statuses}


def _wrong_at(where: str, what: str, status: int, kind: str, title: str) -> ProblemError:
    """One place of the request is why it is refused."""
    return ProblemError(status, kind, title, f"{where}: {what}", errors=[FieldProblem(where=where, what=what)])
