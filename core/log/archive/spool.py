"""Finished segments on this machine's disk that are not in the store yet."""

import secrets
import socket
from pathlib import Path
from typing import Final

from core.log.archive.folder import segments_below
from core.log.archive.segment import Segment

_UNFINISHED: Final = "#"
_NAME: Final = "name"


class Spool:
    """A folder of segments, each under the name it will have in the store.

    What is in it is acknowledged: it is lost with this disk only. Its methods look at the disk.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def claim(self) -> None:
        """Give it its name, unless it has one: for who writes here, before all else."""
        if not self.name:
            self.folder.mkdir(parents=True, exist_ok=True)
            name = f"{socket.gethostname()[:64]}-{secrets.token_hex(4)}"
            (self.folder / _NAME).write_text(name, encoding="utf-8")

    @property
    def name(self) -> str:
        """What no other spool is called, as it is written down in it; empty where no archiver has been yet."""
        file = self.folder / _NAME
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def place_of(self, segment: Segment) -> Path:
        """Where the segment's file belongs."""
        return self.folder / segment.path

    def segments(self) -> list[Segment]:
        """What waits to be moved, oldest first."""
        return sorted(segments_below(self.folder), key=lambda segment: segment.first)

    def size(self) -> int:
        """Bytes of all that waits."""
        return sum(segments_below(self.folder).values())

    def drop_unfinished(self) -> int:
        """Delete what a writer left that was killed; returns how many. Only who writes here may ask."""
        dropped = 0
        for file in self.folder.rglob(f"{_UNFINISHED}*"):
            file.unlink(missing_ok=True)
            dropped += 1
        return dropped
