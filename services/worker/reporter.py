"""Telling the progress of one attempt at a step."""

from typing import Final

from pipai_contracts.analysis import AnalysisResult
from services.worker.ai.analyst import AiStep
from services.worker.messages import REACHES, Step
from services.worker.publisher import Publisher
from services.worker.telling import Run

MOST_EVENTS: Final = 100
"""Events a step tells of its pages: a document of a thousand pages tells every tenth."""


class Reporter:
    """Progress of one attempt at a step of one run.

    ``attempt`` names it: ``run_id:activity_id:attempt``. Progress never falls below what an earlier attempt
    told, so a viewer does not see a document go back.
    """

    def __init__(self, publisher: Publisher, run: Run, step: Step, attempt: str, told: float) -> None:
        self.step: Step = step
        self.progress = max(REACHES[step][0], told)
        self._publisher = publisher
        self._run = run
        self._attempt = attempt
        self._counter = 0
        self._part = -1

    async def part(self, n: int, of: int, message: str) -> None:
        """Part ``n`` of ``of`` of this step is done. With many parts only some are told."""
        share = n * MOST_EVENTS // of
        if of <= MOST_EVENTS or share != self._part:
            self._part = share
            await self.at(100 * n / of, message)

    async def at(self, percent: float, message: str | None) -> None:
        """This step is done by ``percent``."""
        begins, ends = REACHES[self.step]
        self.progress = max(self.progress, begins + (ends - begins) * percent / 100)
        await self._publisher.tell(self._run.progress(self._next_id(), self.step, self.progress, message))

    async def ai(self, model: str, step: AiStep, result: AnalysisResult | None = None) -> None:
        """The analyst moved."""
        await self._publisher.tell([self._run.ai(self._next_id(), model, step, result)])

    def _next_id(self) -> str:
        """The same for the same event of the same attempt, so that a repeated append is recognised."""
        self._counter += 1
        return f"{self._attempt}:{self._counter}"
