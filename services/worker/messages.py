"""What the workflow and its activities hand each other: small, because Temporal keeps all of it."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from core.documents import DocumentKind
from pipai_contracts.analysis import DocumentAnalysisInput

Step = Literal["identify", "extract", "analyse", "conclude"]

REACHES: Final[dict[Step, tuple[float, float]]] = {
    "identify": (0, 5),
    "extract": (5, 55),
    "analyse": (55, 98),
    "conclude": (98, 100),
}
"""Overall progress at which each step begins and ends."""

FILE_STEPS: Final[dict[Step, str]] = {
    "identify": "identification",
    "extract": "text_extraction",
    "analyse": "text_analysis",
    "conclude": "conclusion",
}
"""What viewers of the file read as the step's name."""

INTERRUPTED: Final = "Interrupted"
"""Type of the failure by which a cancelled activity tells how far it came."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)


class Extraction(_Message):
    """A document whose kind is known."""

    document: DocumentAnalysisInput
    kind: DocumentKind


class Text(_Message):
    """A document whose text lies in the storage."""

    document: DocumentAnalysisInput
    text_key: str


class Conclusion(_Message):
    """How a run ended: with a result, with an error, or cancelled. ``step`` and ``progress`` say where."""

    document: DocumentAnalysisInput
    step: Step
    progress: float
    result: dict[str, JsonValue] | None = None
    error: str | None = None
    canceled: bool = False
