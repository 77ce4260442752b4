"""What can come between a fold and its commit."""


class CommitError(Exception):
    """Base of what makes a commit impossible; projecting the same events again later is safe."""


class GenerationChangedError(CommitError):
    """The partition's generation is another by now; nothing was written."""


class ViewsWentBackError(CommitError):
    """The views are older than the checkpoint the events follow: Redis lost its latest writes; nothing was written."""


class ContendedViewError(CommitError):
    """A view was written by others again and again before this projector could."""
