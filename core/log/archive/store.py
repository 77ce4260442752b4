"""Where segments are kept for good."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from core.log.archive.segment import Segment


class StoreAwayError(OSError):
    """The place where segments are kept does not answer, or refuses."""


class SegmentStore(Protocol):
    """Segments by name. One appears whole or not at all, and never changes.

    Every method raises `StoreAwayError` when it could not do what it was asked to.
    """

    async def segments(self, stream: str) -> dict[Segment, int]:
        """What is there of one source stream, each with its bytes."""
        ...

    async def take(self, file: Path, segment: Segment) -> None:
        """Move a finished file of this machine in, under the segment's name."""
        ...

    async def file_of(self, segment: Segment) -> Path:
        """A file on this machine to read the segment from; it is not there when the segment is gone."""
        ...

    async def delete(self, segments: Iterable[Segment]) -> None:
        """Remove segments; one that is not there is fine."""
        ...

    async def names(self, folder: str) -> list[str]:
        """The names of all other files below a folder of the archive, each from the archive's root on."""
        ...

    async def put(self, file: Path, name: str) -> None:
        """Move a finished file of this machine in, under this name; one that has it is replaced."""
        ...

    async def fetch(self, name: str) -> Path:
        """A file on this machine to read it from; it is not there when there is none of that name."""
        ...

    async def remove(self, names: Iterable[str]) -> None:
        """Remove files; one that is not there is fine."""
        ...
