"""Files of a deployment: a local directory or a bucket, chosen by a URL.

``file:///dir``, ``s3://bucket/prefix``, ``gs://…``, ``az://…`` or ``memory:///`` (one process only).
"""

from collections.abc import AsyncIterable, AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, ObjectStore, from_url
from pydantic import Field

_CHUNK: Final = 1024 * 1024


def default_storage_url() -> str:
    """The directory ``.pipai/uploads`` below the current one."""
    return (Path.cwd() / ".pipai" / "uploads").as_uri()


StorageUrl = Annotated[
    str,
    Field(
        description="Where uploaded files are kept: file:///directory, s3://bucket/prefix, gs:// or az://. "
        "Empty means .pipai/uploads below the current directory."
    ),
]
"""The setting ``STORAGE_URL``, the same for every service that reads or writes files."""


DOCUMENTS: Final = "documents"
"""Where uploaded documents lie, each under its file id. They are deleted below it and nowhere else."""


class FileTooLargeError(ValueError):
    """The file has more bytes than are allowed; nothing of it is kept."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the file is larger than {max_bytes} bytes")
        self.max_bytes = max_bytes


class Storage:
    """Files by key. Keys are made by us, never taken from a sender."""

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    async def put(self, key: str, chunks: AsyncIterable[bytes], max_bytes: int) -> int:
        """Store a file as it arrives and return its size in bytes. It appears whole or not at all.

        Raises:
            FileTooLargeError: more than ``max_bytes`` arrived.
        """
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in chunks:
                size += len(chunk)
                if size > max_bytes:
                    raise FileTooLargeError(max_bytes)
                yield chunk

        await obstore.put_async(self._store, key, counted(), use_multipart=True)
        return size

    async def fetch(self, key: str, target: Path) -> int:
        """Copy a file to ``target`` piece by piece and return its size in bytes.

        Raises:
            FileNotFoundError: there is no such file.
        """
        found = await obstore.get_async(self._store, key)
        size = 0
        with target.open("wb") as file:
            async for piece in found.stream(min_chunk_size=_CHUNK):
                size += file.write(piece)
        return size

    async def head(self, key: str, length: int) -> bytes:
        """The first ``length`` bytes of a file, all of a shorter one.

        Raises:
            FileNotFoundError: there is no such file.
        """
        found = await obstore.get_async(self._store, key)
        async for piece in found.stream(min_chunk_size=length):
            return bytes(piece[:length])
        return b""

    async def exists(self, key: str) -> bool:
        """Whether there is such a file."""
        try:
            await obstore.head_async(self._store, key)
        except FileNotFoundError:
            return False
        return True

    async def delete(self, key: str) -> None:
        """Remove a file. One that is not there is fine."""
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return

    async def older_than(self, moment: datetime, prefix: str | None = None) -> AsyncIterator[str]:
        """Keys of files that were last written before ``moment``."""
        async for batch in obstore.list(self._store, prefix):  # pyright: ignore[reportUnknownMemberType]
            for found in batch:
                if found["last_modified"] < moment:
                    yield found["path"]

    def drop_unfinished(self, moment: datetime) -> int:
        """Delete what uploads left that broke off before ``moment``, when their process was killed; returns how many.

        A local directory keeps such pieces under a name with ``#``, which no listing shows. What a bucket keeps of
        them is a matter of its own life-cycle rules.
        """
        dropped = 0
        for piece in self._folder.rglob("*#*") if self._folder else ():
            if datetime.fromtimestamp(piece.stat().st_mtime, UTC) < moment:
                piece.unlink(missing_ok=True)
                dropped += 1
        return dropped


def open_storage(url: str) -> Storage:
    """The storage a URL names; a local directory is made when it is not there yet.

    Raises:
        ValueError: the URL names no storage that is known.
    """
    parts = urlsplit(url or default_storage_url())
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        return Storage(LocalStore(folder, mkdir=True, automatic_cleanup=False), folder)
    try:
        return Storage(from_url(url))
    except Exception as error:
        raise ValueError(f"STORAGE_URL {parts.scheme}://… names no storage: {error}") from error
