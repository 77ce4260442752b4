"""RFC 9457 problem details: what went wrong, and where."""

from typing import Final

from pydantic import BaseModel, ConfigDict

PROBLEM_CONTENT_TYPE: Final = "application/problem+json"


class FieldProblem(BaseModel):
    """One fault of a request: ``where`` like ``body.progress``, ``what`` in words."""

    model_config = ConfigDict(frozen=True)

    where: str
    what: str


class Problem(BaseModel):
    """A refused request. ``type`` is a stable URI reference that programs may compare."""

    model_config = ConfigDict(frozen=True)

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []
