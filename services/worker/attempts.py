"""One attempt at an activity: its heartbeat, its measure, and how its failures are told to the workflow."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from temporalio import activity
from temporalio.exceptions import ApplicationError

from core.documents import DocumentError
from pipai_contracts.analysis import DocumentAnalysisInput
from services.worker.ai.analyst import AnalystError
from services.worker.messages import INTERRUPTED, Step
from services.worker.metrics import STEP_SECONDS
from services.worker.publisher import Publisher
from services.worker.reporter import Reporter
from services.worker.telling import Run

HEARTBEAT: Final = timedelta(seconds=1)
"""Pause between heartbeats. A cancellation arrives as the answer to one."""


@asynccontextmanager
async def attempt(publisher: Publisher, document: DocumentAnalysisInput, step: Step) -> AsyncGenerator[Reporter, None]:
    """A reporter for the activity that runs now; its progress is in every heartbeat.

    Raises:
        ApplicationError: in place of an error that trying again cannot mend, and of a cancellation that was
            asked for; its details say how far the step came.
    """
    info = activity.info()
    told = float(info.heartbeat_details[0]) if info.heartbeat_details else 0.0
    run = Run(document, info.workflow_run_id or info.activity_run_id or info.activity_id)
    reporter = Reporter(publisher, run, step, f"{run.run_id}:{info.activity_id}:{info.attempt}", told)
    beating = asyncio.create_task(_beat(reporter))
    try:
        with STEP_SECONDS.labels(step).time():
            yield reporter
    except (DocumentError, AnalystError) as error:
        raise _final(str(error), reporter, type(error).__name__) from error
    except FileNotFoundError as error:
        raise _final("The file is no longer stored.", reporter, "FileGoneError") from error
    except asyncio.CancelledError as error:
        details = activity.cancellation_details()
        if details is None or not details.cancel_requested:
            raise
        raise _final("canceled", reporter, INTERRUPTED) from error
    except Exception:
        activity.heartbeat(reporter.progress)  # the next attempt starts telling from here
        raise
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating


async def _beat(reporter: Reporter) -> None:
    while True:
        activity.heartbeat(reporter.progress)
        await asyncio.sleep(HEARTBEAT.total_seconds())


def _final(message: str, reporter: Reporter, kind: str) -> ApplicationError:
    return ApplicationError(message, reporter.progress, type=kind, non_retryable=True)
