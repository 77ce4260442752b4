"""What can come between a fold and its commit."""

from collections.abc import Collection

from pipai_contracts.ids import Topic


class CommitError(Exception):
    """Base of what makes a commit impossible; projecting the same events again later is safe."""


class GenerationChangedError(CommitError):
    """The partition's generation is another by now; nothing was written."""


class ViewsWentBackError(CommitError):
    """The views are older than the checkpoint the events follow: Redis lost its latest writes; nothing was written."""


class RepairNeededError(Exception):
    """Stored views cannot be read, so nothing can be folded on them before they are repaired."""

    def __init__(self, topics: Collection[Topic]) -> None:
        super().__init__(f"{len(topics)} stored views cannot be read")
        self.topics = topics


class LostBaseError(CommitError):
    """What the events were to be folded on was not committed."""


class ContendedViewError(CommitError):
    """A view was written by others again and again before this projector could."""


class UnreadableViewError(ValueError):
    """What is stored for a topic is no view this build can read; its next event has it made anew."""
