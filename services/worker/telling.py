"""The events a run tells: made from what happens, without any IO."""

from dataclasses import dataclass

from core.runtime.clock import now
from pipai_contracts.analysis import AnalysisResult, DocumentAnalysisInput
from pipai_contracts.envelope import Envelope
from pipai_contracts.events import AiProgress, AnalysisProgress, AnyEvent, WorkflowProgress
from services.worker.ai.analyst import AiStep
from services.worker.messages import FILE_STEPS, Conclusion, Step


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the workflow, whose events carry its id."""

    document: DocumentAnalysisInput
    run_id: str

    def progress(self, event_id: str, step: Step, progress: float, message: str | None) -> list[Envelope]:
        """The workflow and the file moved."""
        document = self.document
        return [
            self._wrap(
                event_id,
                WorkflowProgress(
                    workflow_id=document.workflow_id, step=step, progress=_rounded(progress), message=message
                ),
            ),
            self._wrap(
                event_id,
                AnalysisProgress(
                    file_id=document.file_id, step=FILE_STEPS[step], progress=_rounded(progress), message=message
                ),
            ),
        ]

    def ai(self, event_id: str, model: str, step: AiStep, result: AnalysisResult | None = None) -> Envelope:
        """The AI step moved, or found its result."""
        event = AiProgress(
            workflow_id=self.document.workflow_id,
            step=step.step,
            progress=None if step.progress is None else _rounded(step.progress),
            message=step.message,
            delta=step.delta,
            model=model,
            result=None if result is None else result.model_dump(mode="json"),
        )
        return self._wrap(event_id, event)

    def end(self, conclusion: Conclusion) -> list[Envelope]:
        """The run ended, for the workflow and for the file. The ids are the same however often this is told."""
        event_id = f"{self.run_id}:end"
        document = self.document
        workflow = WorkflowProgress(
            workflow_id=document.workflow_id,
            step=conclusion.step,
            progress=_rounded(conclusion.progress),
            message=_closing_words(conclusion),
            error=conclusion.error,
            canceled=conclusion.canceled or None,
            result=conclusion.result,
        )
        file = AnalysisProgress(
            file_id=document.file_id,
            step=FILE_STEPS[conclusion.step],
            progress=workflow.progress,
            message=workflow.message,
            error=workflow.error,
            canceled=workflow.canceled,
            result=workflow.result,
        )
        return [self._wrap(event_id, workflow), self._wrap(event_id, file)]

    def _wrap(self, event_id: str, event: AnyEvent) -> Envelope:
        return Envelope(
            event_id=event_id,
            tenant=self.document.tenant,
            user_id=self.document.user_id,
            run_id=self.run_id,
            time=now(),
            event=event,
        )


def _closing_words(conclusion: Conclusion) -> str:
    if conclusion.canceled:
        return "Canceled"
    return "Analysis failed" if conclusion.error else "Analysis complete"


def _rounded(progress: float) -> float:
    return round(progress, 1)
