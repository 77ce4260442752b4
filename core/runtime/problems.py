"""Refusing requests with RFC 9457 problem reports."""

from collections.abc import Sequence
from typing import Final

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.responses import Response

from pipai_contracts.problems import PROBLEM_CONTENT_TYPE, FieldProblem, Problem

MAX_FAULTS: Final = 20
"""Faults a problem report lists; a request may have any number."""


class ProblemError(Exception):
    """A request that is refused; says so in RFC 9457 form."""

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(type=f"/problems/{kind}", title=title, status=status, detail=detail, errors=list(errors))
        self.headers = headers or {}


def field_problems(error: ValidationError | RequestValidationError, root: str = "") -> list[FieldProblem]:
    """The faults of a validation, each with its place: ``body.steps.0.name``."""
    problems: list[FieldProblem] = []
    for fault in error.errors()[:MAX_FAULTS]:
        place = ".".join(str(part) for part in ((root,) if root else ()) + tuple(fault["loc"]))
        problems.append(FieldProblem(where=place or "body", what=str(fault["msg"]).removeprefix("Value error, ")))
    return problems


def invalid(error: ValidationError | RequestValidationError, root: str = "") -> ProblemError:
    """The problem report (422) for input that did not validate."""
    return invalid_fields(field_problems(error, root))


def invalid_fields(faults: Sequence[FieldProblem]) -> ProblemError:
    """The problem report (422) of these faults."""
    detail = "; ".join(f"{fault.where}: {fault.what}" for fault in faults[:5])
    return ProblemError(422, "invalid", "The request has invalid fields", detail, errors=faults)


def problem_response(error: ProblemError) -> Response:
    """The refusal as an HTTP response."""
    return JSONResponse(
        error.problem.model_dump(mode="json", exclude_defaults=True),
        status_code=error.problem.status,
        media_type=PROBLEM_CONTENT_TYPE,
        headers=error.headers,
    )
