"""Segments in a bucket, copied to this disk to be read."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from core.log.archive.segment import SUFFIX, Segment, stream_folder
from core.log.archive.store import StoreAwayError

MOST_BYTES: Final = 4 * 1024 * 1024 * 1024

_IN_USE_SECONDS: Final = 600
"""Who asked for a copy reads it so long at most, together with others of the same day."""


class BucketStore:
    """A store that is a bucket. Copies of the segments that were read last stay in ``copies``.

    They have up to ``most`` bytes, or more where so much was read within minutes. A copy lies under the tag that the
    object had when it was listed last: one that was written again, because of an erasure, is copied again.
    """

    def __init__(self, bucket: ObjectStore, copies: Path, *, most: int = MOST_BYTES) -> None:
        self._bucket = bucket
        self._copies = copies
        self._most = most
        self._turn = asyncio.Lock()
        self._tags: dict[str, str] = {}

    async def segments(self, stream: str) -> dict[Segment, int]:
        """What is there of one source stream, each with its bytes."""
        found: dict[Segment, int] = {}
        try:
            async for batch in obstore.list(self._bucket, stream_folder(stream)):
                self._note(cast("Sequence[Mapping[str, Any]]", batch))
                parsed = {Segment.parse(one["path"]): one["size"] for one in batch}
                found |= {segment: size for segment, size in parsed.items() if segment is not None}
        except (BaseError, OSError) as error:
            raise StoreAwayError(f"segments cannot be listed: {_said(error)}") from error
        return found

    async def take(self, file: Path, segment: Segment) -> None:
        """Upload a file, and remove it here."""
        await self.put(file, segment.path)

    async def file_of(self, segment: Segment) -> Path:
        """The segment's copy, made now unless it is there."""
        return await self.fetch(segment.path)

    async def delete(self, segments: Iterable[Segment]) -> None:
        """Remove segments."""
        await self.remove([segment.path for segment in segments])

    async def names(self, folder: str) -> list[str]:
        """The names of the objects below a folder."""
        try:
            names: list[str] = []
            async for batch in obstore.list(self._bucket, folder):
                self._note(cast("Sequence[Mapping[str, Any]]", batch))
                names += [one["path"] for one in batch]
        except (BaseError, OSError) as error:
            raise StoreAwayError(f"{folder} cannot be listed: {_said(error)}") from error
        return sorted(names)

    async def put(self, file: Path, name: str) -> None:
        """Upload a file, and remove it here."""
        try:
            await obstore.put_async(self._bucket, name, file)
            await asyncio.to_thread(file.unlink)
        except (BaseError, OSError) as error:
            raise StoreAwayError(f"{name} cannot be uploaded: {_said(error)}") from error

    async def fetch(self, name: str) -> Path:
        """The copy of an object, made now unless it is there."""
        target = self._copies / self._tags.get(name, "untagged") / name
        async with self._turn:
            if await asyncio.to_thread(_use, target):
                return target
            try:
                await self._copy(name, target)
            except FileNotFoundError:  # brought together with others: who reads will notice, and ask anew
                return target
            except (BaseError, OSError) as error:
                raise StoreAwayError(f"{name} cannot be read: {_said(error)}") from error
            await asyncio.to_thread(self._drop_oldest)
        return target

    async def remove(self, names: Iterable[str]) -> None:
        """Remove objects."""
        for name in names:
            try:
                await obstore.delete_async(self._bucket, name)
            except FileNotFoundError:
                continue
            except (BaseError, OSError) as error:
                raise StoreAwayError(f"{name} cannot be deleted: {_said(error)}") from error

    def _note(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Note what the objects are tagged with; what was copied of an earlier version goes."""
        for one in batch:
            tag = blake2b(f"{one['e_tag']} {one['size']}".encode(), digest_size=8).hexdigest()
            before = self._tags.get(one["path"])
            if before not in {None, tag}:
                (self._copies / str(before) / one["path"]).unlink(missing_ok=True)
            self._tags[one["path"]] = tag

    async def _copy(self, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f"#{target.name}")
        try:
            found = await obstore.get_async(self._bucket, name)
            with unfinished.open("wb") as file:
                async for piece in found.stream():
                    file.write(piece)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)

    def _drop_oldest(self) -> None:
        files = sorted(
            ((file.stat(), file) for file in self._copies.rglob(f"*{SUFFIX}")), key=lambda one: one[0].st_mtime
        )
        size = sum(about.st_size for about, _ in files)
        for about, file in files:
            if size <= self._most or about.st_mtime > time.time() - _IN_USE_SECONDS:
                return
            file.unlink(missing_ok=True)
            size -= about.st_size


def _use(copy: Path) -> bool:
    """Whether there is this copy, which counts as the one used last from now on."""
    if not copy.exists():
        return False
    copy.touch()
    return True


def _said(error: BaseException) -> str:
    """What went wrong, without what a developer of the library wants to know besides."""
    return str(error).partition("\n")[0]
