"""The view of a file: a fold of its analysis."""

from core.views.runs import fold_progress
from pipai_contracts.events import AnalysisProgress
from pipai_contracts.record import Record
from pipai_contracts.views import FileView


def initial(file_id: str) -> FileView:
    """A file nobody heard of."""
    return FileView(id=file_id)


def evolve(view: FileView, record: Record) -> FileView:
    """The view after one more event; the very same view when the event came too late to count."""
    envelope = record.envelope
    match envelope.event:
        case AnalysisProgress() as event:
            return fold_progress(view, event, envelope.run_id, envelope.user_id, envelope.time)
        case other:
            raise TypeError(f"{other.type} is no event of a file")
