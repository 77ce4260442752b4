"""What the AI step asks for, whoever answers."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pipai_contracts.analysis import AnalysisResult

PAGE_BREAK: Final = "\f"
"""Stands between the pages of a text."""


class AnalystError(Exception):
    """The AI step failed and gave up. The message is a sentence for whoever sent the document."""


@dataclass(frozen=True, slots=True)
class AiStep:
    """What the analyst does now. ``progress`` is 0-100 where it is known; ``delta`` is text to append to the step's.

    A step that begins again has another name, because its text begins again too.
    """

    step: str
    progress: float | None = None
    message: str | None = None
    delta: str | None = None


class Analyst(Protocol):
    """Finds out what a text is about."""

    @property
    def model(self) -> str:
        """Who answers: a model's name, or ``local``."""
        ...

    def analyse(self, text: Path) -> AsyncGenerator[AiStep | AnalysisResult, None]:
        """Steps as they happen, and at the end the result.

        ``text`` is a UTF-8 file with `PAGE_BREAK` between pages. Never blocks the event loop; closing the
        generator ends the work.

        Raises:
            AnalystError: it gave up.
            DocumentError: the text takes more than it is allowed.
        """
        ...
