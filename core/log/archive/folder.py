"""Segments in a directory."""

import asyncio
import errno
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from core.log.archive.durable import sync
from core.log.archive.segment import SUFFIX, Segment, stream_folder
from core.log.archive.store import StoreAwayError


class FolderStore:
    """A store that is a directory, made with the first segment; what is in it is on the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def segments(self, stream: str) -> dict[Segment, int]:
        """What is there of one source stream, each with its bytes."""
        try:
            return await asyncio.to_thread(segments_below, self._folder, stream_folder(stream))
        except OSError as error:
            raise StoreAwayError(f"{self._folder} cannot be listed: {error}") from error

    async def take(self, file: Path, segment: Segment) -> None:
        """Move a file in."""
        await self.put(file, segment.path)

    async def file_of(self, segment: Segment) -> Path:
        """Where the segment is."""
        return await self.fetch(segment.path)

    async def delete(self, segments: Iterable[Segment]) -> None:
        """Remove segments."""
        await self.remove([segment.path for segment in segments])

    async def names(self, folder: str) -> list[str]:
        """The names of the files below a folder."""
        try:
            return await asyncio.to_thread(_names_below, self._folder, folder)
        except OSError as error:
            raise StoreAwayError(f"{self._folder} cannot be listed: {error}") from error

    async def put(self, file: Path, name: str) -> None:
        """Move a file in."""
        try:
            await asyncio.to_thread(_move, file, self._folder / name)
        except OSError as error:
            raise StoreAwayError(f"{name} cannot be moved to {self._folder}: {error}") from error

    async def fetch(self, name: str) -> Path:
        """Where it is."""
        return self._folder / name

    async def remove(self, names: Iterable[str]) -> None:
        """Remove files."""
        try:
            for name in names:
                await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)
        except OSError as error:
            raise StoreAwayError(f"files cannot be deleted: {error}") from error


def _names_below(root: Path, folder: str) -> list[str]:
    return sorted(str(file.relative_to(root)) for file in (root / folder).rglob("[!#]*") if file.is_file())


def segments_below(folder: Path, part: str = "") -> dict[Segment, int]:
    """The segments in a directory, or in a part of it, each with its bytes.

    Raises:
        OSError: it cannot be read.
    """
    found: dict[Segment, int] = {}
    for file in (folder / part).rglob(f"*{SUFFIX}"):
        segment = Segment.parse(str(file.relative_to(folder)))
        if segment is not None:
            with suppress(FileNotFoundError):  # moved meanwhile
                found[segment] = file.stat().st_size
    return found


def _move(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        file.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        unfinished = target.with_name(f"#{target.name}")  # the two are on different disks
        shutil.copyfile(file, unfinished)
        sync(unfinished)
        unfinished.replace(target)
        file.unlink()
    for folder in (target.parent, target.parent.parent, target.parent.parent.parent):
        sync(folder)
