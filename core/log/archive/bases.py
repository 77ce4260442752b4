"""Bases: what views were when the beginning of their history was given up. Opaque here: folds know what a state is."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from core.log.archive.durable import sync
from core.log.archive.parquet import Parquet
from core.log.archive.segment import stream_of
from core.log.archive.store import SegmentStore
from core.log.keys import Keys, partition_of
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, Record, StreamId

FOLDER: Final = "bases"
_FORM: Final = re.compile(r"bases/until=(\d{1,15})/(\d{1,9})\.parquet", re.ASCII)
_WHOLE: Final = re.compile(r"bases/until=(\d{1,15})/whole\.json", re.ASCII)
_COLUMNS: Final = {
    "tenant": "VARCHAR",
    "topic": "VARCHAR",
    "pos": "BIGINT",
    "first": "VARCHAR",
    "until": "BIGINT",
    "heard": "VARCHAR",
    "partitions": "INTEGER",
    "state": "VARCHAR",
    "latest": "VARCHAR",
}
_NAMES: Final = ", ".join(f'"{name}"' for name in _COLUMNS)
_ALL: Final = f"SELECT {_NAMES} FROM read_parquet(?, hive_partitioning = false)"  # noqa: S608 - of constants


class Base(NamedTuple):
    """A view after ``pos`` events, the first of which was ``first``.

    It has taken in every event appended before ``until`` (milliseconds), and those up to ``heard`` of each source
    stream partition, of which there were ``partitions`` then. ``state`` is as views store it, ``latest`` is the last
    entry of its feed.
    """

    topic: Topic
    pos: int
    first: StreamId
    until: int
    heard: Mapping[str, StreamId]
    partitions: int
    state: bytes
    latest: bytes

    def has(self, record: Record) -> bool:
        """Whether the event has been taken in."""
        if record.stream_id.milliseconds < self.until:
            return True
        if not self.heard:
            return False
        topic = record.envelope.topic
        source = Keys(partitions=self.partitions).source(stream_of(record.source), partition_of(topic, self.partitions))
        return record.stream_id <= self.heard.get(source.name, BEGINNING)


class Bases:
    """Sets of bases beside the segments of one archive, of which the newest complete one counts.

    A set is complete when it says so: what a crash left is written again. Methods raise what store and `Parquet` do.
    """

    def __init__(self, store: SegmentStore, parquet: Parquet, folder: Path) -> None:
        self._store = store
        self._parquet = parquet
        self._folder = folder

    async def newest(self) -> int | None:
        """Up to which millisecond (excluded) the newest complete set has everything; None: there is none."""
        found = [_WHOLE.fullmatch(name) for name in await self._store.names(FOLDER)]
        return max((int(one[1]) for one in found if one), default=None)

    async def write(self, until: int, parts: AsyncIterable[Sequence[Base]]) -> None:
        """Write a set; it counts once all of it is in the store."""
        number = 0
        async for part in parts:
            if not part:
                continue
            file = self._folder / f"{number}.parquet"
            await asyncio.to_thread(self._write, part, file)
            await self._store.put(file, f"{FOLDER}/until={until}/{number}.parquet")
            number += 1
        file = self._folder / "whole.json"
        await asyncio.to_thread(_write_json, file, {"until": until, "parts": number})
        await self._store.put(file, f"{FOLDER}/until={until}/whole.json")

    async def find(self, until: int, topic: Topic) -> Base | None:
        """The topic's base in a set; None: it had no event by then, or ended before."""
        where = "WHERE tenant = ? AND topic = ?"
        async for page in self._read(until, where, [topic.tenant, topic.name]):
            return page[0]
        return None

    async def among(self, until: int, topics: Collection[Topic]) -> set[Topic]:
        """Those of the topics that have a base in a set."""
        files = await self._files(until)
        if not files:
            return set()
        question = "SELECT tenant, topic FROM read_parquet(?) WHERE topic IN (SELECT unnest(?::VARCHAR[]))"
        values = [files, [topic.name for topic in topics]]
        rows = await asyncio.to_thread(lambda: [row for page in self._parquet.ask(question, values) for row in page])
        paths = {f"{tenant}:{name}" for tenant, name in rows}
        return {topic for topic in topics if topic.path in paths}

    async def read(self, until: int) -> AsyncGenerator[list[Base]]:
        """All bases of a set."""
        async for page in self._read(until, "", []):
            yield page

    async def count(self) -> int:
        """How many bases the newest complete set has."""
        files = await self._files(until) if (until := await self.newest()) is not None else []
        if not files:
            return 0
        return await asyncio.to_thread(self._count, "true", [files])

    async def change(self, left: Callable[[Base], Base | None]) -> None:
        """Have every set say what is left of its bases: the same, another one, or None to leave it out."""
        for name in await self._store.names(FOLDER):
            if _FORM.fullmatch(name):
                file = await self._store.fetch(name)
                changed = await asyncio.to_thread(self._changed, file, left)
                if changed is not None:
                    await self._store.put(changed, name)

    async def drop_older(self, until: int) -> None:
        """Remove the sets before this one, and what a crash left of them."""
        names = await self._store.names(FOLDER)
        found = [(name, _FORM.fullmatch(name) or _WHOLE.fullmatch(name)) for name in names]
        await self._store.remove([name for name, one in found if one and int(one[1]) < until])

    async def _read(self, until: int, where: str, values: list[Any]) -> AsyncGenerator[list[Base]]:
        files = await self._files(until)
        if not files:
            return
        pages = self._parquet.ask(f"{_ALL} {where}", [files, *values])
        while (rows := await asyncio.to_thread(next, pages, None)) is not None:
            yield [_base(row) for row in rows]

    def _changed(self, file: Path, left: Callable[[Base], Base | None]) -> Path | None:
        """A file with what is left of the bases in this one; None when that is all of them as they are."""
        bases = [_base(row) for rows in self._parquet.ask(_ALL, [[str(file)]]) for row in rows]
        rest = [left(base) for base in bases]
        if all(one is base for one, base in zip(rest, bases, strict=True)):
            return None
        target = self._folder / "changed.parquet"
        self._write([base for base in rest if base is not None], target)
        return target

    def _count(self, where: str, values: Sequence[Any]) -> int:
        question = f"SELECT count(*) FROM read_parquet(?) WHERE {where}"  # noqa: S608 - of constants
        return self._parquet.ask_one(question, values)[0]

    async def _files(self, until: int) -> list[str]:
        names = await self._store.names(f"{FOLDER}/until={until}")
        return [str(await self._store.fetch(name)) for name in names if _FORM.fullmatch(name)]

    def _write(self, bases: Sequence[Base], file: Path) -> None:
        asked = ", ".join(f'unnest(?::{kind}[]) AS "{name}"' for name, kind in _COLUMNS.items())
        rows = [
            (
                base.topic.tenant,
                base.topic.name,
                base.pos,
                str(base.first),
                base.until,
                json.dumps({name: str(stream_id) for name, stream_id in base.heard.items()}),
                base.partitions,
                base.state.decode(),
                base.latest.decode(),
            )
            for base in bases
        ]
        values = [[row[number] for row in rows] for number in range(len(_COLUMNS))]
        self._parquet.copy(f"SELECT {asked}", values, "tenant, topic", file)


def _base(row: Sequence[Any]) -> Base:
    tenant, topic, pos, first, until, heard, partitions, state, latest = row
    return Base(
        Topic.parse(f"{tenant}:{topic}"),
        pos,
        StreamId.parse(first),
        until,
        {name: StreamId.parse(stream_id) for name, stream_id in json.loads(heard).items()},
        partitions,
        state.encode(),
        latest.encode(),
    )


def _write_json(file: Path, told: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(told), encoding="utf-8")
    sync(file)
