"""Files of a deployment."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.runtime.storage import FileTooLargeError, Storage, open_storage

MEGABYTE = 1024 * 1024


async def arriving(megabytes: int) -> AsyncIterator[bytes]:
    for n in range(megabytes):
        yield bytes([n % 256]) * MEGABYTE


async def broken() -> AsyncIterator[bytes]:
    yield bytes(8 * MEGABYTE)
    raise ConnectionError("the sender went away")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "with a space"


@pytest.fixture
def storage(folder: Path) -> Storage:
    return open_storage(folder.as_uri())


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_file_comes_back_as_it_was(storage: Storage, tmp_path: Path) -> None:
    size = await storage.put("a/b", arriving(12), 20 * MEGABYTE)
    assert size == 12 * MEGABYTE
    target = tmp_path / "copy"
    assert await storage.fetch("a/b", target) == size
    assert target.read_bytes() == b"".join([chunk async for chunk in arriving(12)])


async def test_nothing_is_kept_of_a_file_that_is_too_large(storage: Storage, folder: Path) -> None:
    with pytest.raises(FileTooLargeError, match="larger than"):
        await storage.put("a", arriving(30), 20 * MEGABYTE)
    assert files(folder) == []


async def test_nothing_is_kept_of_a_file_that_stopped_half_way(storage: Storage, folder: Path) -> None:
    with pytest.raises(ConnectionError):
        await storage.put("a", broken(), 20 * MEGABYTE)
    assert files(folder) == []


async def test_old_files_are_listed_and_deleted(storage: Storage, folder: Path) -> None:
    await storage.put("a", arriving(1), MEGABYTE)
    now = datetime.now(UTC)
    assert [key async for key in storage.older_than(now - timedelta(minutes=1))] == []
    assert [key async for key in storage.older_than(now + timedelta(minutes=1))] == ["a"]
    await storage.delete("a")
    await storage.delete("a")
    assert files(folder) == []


async def test_a_missing_file_says_so(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await storage.fetch("nothing", tmp_path / "copy")


def test_an_unknown_kind_of_storage_says_so() -> None:
    with pytest.raises(ValueError, match="STORAGE_URL floppy"):
        open_storage("floppy://a")
