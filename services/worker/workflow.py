"""The Temporal workflow of a document: identify, extract, analyse, and whatever happens: conclude."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    TimeoutError,  # noqa: A004 - the name Temporal gives it
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from pipai_contracts.analysis import DOCUMENT_ANALYSIS, AnalysisResult, DocumentAnalysisInput
    from services.worker.activities import DocumentActivities
    from services.worker.messages import INTERRUPTED, REACHES, Conclusion, Extraction, Step, Text

HEARTBEAT_TIMEOUT: Final = timedelta(seconds=10)
"""After this long without a heartbeat the worker counts as dead and another takes over."""

LONGEST_STEP: Final = timedelta(hours=1)
"""Bound of one attempt; the confined processes end long before."""

_WORK: Final = RetryPolicy(
    initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=8
)
"""A minute and a half of trying. Bounded, because a document may be what makes workers die."""

_END: Final = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))
_FAULT: Final = "The analysis failed because of a fault in this system. Trying again later may help."
"""What is said of errors whose message was not written for the sender."""


@workflow.defn(name=DOCUMENT_ANALYSIS, failure_exception_types=[Exception])
class DocumentAnalysis:
    """One document's way. However it ends, its last event is told before the workflow closes."""

    def __init__(self) -> None:
        self._step: Step = "identify"

    @workflow.run
    async def run(self, document: DocumentAnalysisInput) -> AnalysisResult:
        """Analyse the document.

        Raises:
            ApplicationError: it cannot be analysed; the message says why.
            CancelledError: it was cancelled.
        """
        try:
            result = await self._analyse(document)
        except (ActivityError, CancelledError, asyncio.CancelledError) as error:
            conclusion = self._conclude(document, error)
            await _tell(conclusion)
            if conclusion.canceled:
                raise CancelledError("The analysis was canceled.") from error
            raise ApplicationError(conclusion.error or _FAULT, type="DocumentFailed", non_retryable=True) from error
        await _tell(Conclusion(document=document, step="conclude", progress=100, result=result.model_dump(mode="json")))
        return result

    async def _analyse(self, document: DocumentAnalysisInput) -> AnalysisResult:
        kind = await self._do("identify", DocumentActivities.identify, document)
        extraction = Extraction(document=document, kind=kind)
        text: Text = await self._do("extract", DocumentActivities.extract, extraction)
        return await self._do("analyse", DocumentActivities.analyse, text)

    async def _do(self, step: Step, does: Callable[[Any, Any], Awaitable[Any]], argument: object) -> Any:
        """Run one step. A cancellation waits for the step's own word, which says how far it came."""
        self._step = step
        answer = await workflow.execute_activity_method(
            does,
            argument,
            start_to_close_timeout=LONGEST_STEP,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=_WORK,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        if workflow.cancellation_reason() is not None:  # it came when the step was just done
            raise CancelledError("canceled", REACHES[step][1])
        return answer

    def _conclude(self, document: DocumentAnalysisInput, error: BaseException) -> Conclusion:
        """What is told of a run that ended early."""
        sentence, progress = _word_of(error)
        canceled = sentence is None or is_cancelled_exception(error)
        return Conclusion(
            document=document,
            step=self._step,
            progress=min(progress if progress is not None else REACHES[self._step][0], 99),
            error=None if canceled else sentence,
            canceled=canceled,
        )


def _word_of(error: BaseException) -> tuple[str | None, float | None]:
    """A sentence for the sender, None for a cancellation, and how far the run had come, where that is known."""
    cause = error.cause if isinstance(error, ActivityError) else error
    match cause:
        case ApplicationError(type=kind, non_retryable=True) if cause.details:
            return (None if kind == INTERRUPTED else cause.message), float(cause.details[0])
        case TimeoutError():
            beats = cause.last_heartbeat_details
            return "The analysis was given up: its worker did not answer.", float(beats[0]) if beats else None
        case CancelledError():
            return None, float(cause.details[0]) if cause.details else None
        case asyncio.CancelledError():
            return None, None
        case _:
            return _FAULT, None


async def _tell(conclusion: Conclusion) -> None:
    """Have the end told, for as long as it takes. A cancellation that comes now is too late to change it."""
    telling = asyncio.ensure_future(
        workflow.execute_activity_method(
            DocumentActivities.conclude,
            conclusion,
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=_END,
        )
    )
    try:
        await asyncio.shield(telling)
    except asyncio.CancelledError:
        await telling
