"""Sets of bases are written whole, found by topic, and replaced by newer ones."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from core.log.archive.bases import Base, Bases
from core.log.archive.bucket import BucketStore
from core.log.archive.folder import FolderStore
from core.log.archive.parquet import Parquet
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId


@pytest.fixture(params=["folder", "bucket"])
def bases(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bases]:
    parquet = Parquet(tmp_path / "sorting")
    folder = FolderStore(tmp_path / "archive")
    yield Bases(
        folder if request.param == "folder" else BucketStore(MemoryStore(), tmp_path / "copies"),
        parquet,
        tmp_path / "bases",
    )
    parquet.close()


def _base(resource_id: str, pos: int = 1) -> Base:
    heard = {"workflow:progress": StreamId(5, 1), "ai:progress:3": StreamId(2**50, 2**63)}
    return Base(
        Topic("default", "workflow", resource_id),
        pos,
        StreamId(3, 0),
        17,
        heard,
        4,
        '{"ä":"\\u0000"}'.encode(),
        b'["progress"]',
    )


async def _parts(*parts: Sequence[Base]) -> AsyncGenerator[Sequence[Base]]:
    for part in parts:
        yield part


async def _broken(part: Sequence[Base]) -> AsyncGenerator[Sequence[Base]]:
    yield part
    raise ConnectionError("killed")


async def test_a_base_is_found_by_its_topic(bases: Bases) -> None:
    told = [_base(f"w{number}", number) for number in range(1, 50)]
    await bases.write(100, _parts(told[:20], told[20:]))
    assert await bases.newest() == 100
    assert await bases.find(100, told[30].topic) == told[30]
    assert await bases.find(100, Topic("default", "workflow", "other")) is None
    assert await bases.find(100, Topic("another", "workflow", "w3")) is None
    read = [base async for page in bases.read(100) for base in page]
    assert sorted(read) == sorted(told)


async def test_a_set_that_was_cut_short_does_not_count_and_is_written_again(bases: Bases) -> None:
    await bases.write(100, _parts([_base("w")]))
    with pytest.raises(ConnectionError):
        await bases.write(200, _broken([_base("w", 2)]))
    assert await bases.newest() == 100
    await bases.write(200, _parts([_base("w", 3)]))
    assert await bases.newest() == 200
    assert await bases.find(200, _base("w").topic) == _base("w", 3)


async def test_older_sets_go_when_a_newer_one_counts(bases: Bases) -> None:
    for until in (100, 200):
        await bases.write(until, _parts([_base("w", until)]))
    await bases.drop_older(200)
    assert await bases.newest() == 200
    assert await bases.find(100, _base("w").topic) is None


async def test_without_any_there_is_none(bases: Bases) -> None:
    assert await bases.newest() is None
    assert await bases.find(1, _base("w").topic) is None
    await bases.write(100, _parts())
    assert await bases.newest() == 100
    assert [page async for page in bases.read(100)] == []
