"""What it takes to make views again from the archive alone: ``./run bench rebuild [--short]``.

Events of 500 workflows of 100 users are in segments, as the archiver writes them, and in JSON lines with zstd. From
both all views are folded, in one process; from ours they are also written to a Redis on the other core, each with its
feed of up to 1,000 entries, as `pipai-admin rebuild` does. Printed as a Markdown table.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from redis.asyncio import Redis

from bench.peers.json_lines import JsonLines
from bench.stand.cores import pin
from bench.stand.table import table
from core.log.archive.archive import Archive
from core.log.archive.folder import FolderStore
from core.log.archive.parquet import Parquet
from core.log.archive.place import ArchiveSettings
from core.log.archive.segment import Segment
from core.log.archive.spool import Spool
from core.log.entry import Entry, decode
from core.log.keys import Keys
from core.log.reader import Logged
from core.runtime.loaded import expect_many_objects
from core.runtime.redis import command_client
from core.runtime.tasks import together
from core.views.rebuild import Fresh
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId
from pipai_contracts.times import format_millis
from services.admin.command import Deployment
from services.admin.compare import Comparer
from services.admin.selection import Selection
from services.standalone.embedded import redis_server

_SEGMENT: Final = 40_960
_BEGIN: Final = 1_735_689_600_000
_WORKFLOWS: Final = 500
_USERS: Final = 100
_FEED: Final = 1_000
_SOURCE: Final = Keys().source("workflow:progress", 0)


class Times(NamedTuple):
    """Seconds until all views were folded, and until they were written; how many there are."""

    folded: float
    written: float
    views: int


def events(count: int) -> Iterator[Logged]:
    """Typical progress events, one a millisecond."""
    random = Random(1)
    for number in range(count):
        workflow, page = random.randrange(_WORKFLOWS), random.randrange(1, 13)
        fields = {
            "id": f"{random.getrandbits(128):032x}",
            "type": "workflow_progress",
            "v": "1",
            "tenant": "default",
            "topic": f"workflow:order-{workflow}",
            "offset": str(number + 1),
            "user": f"user-{workflow % _USERS}",
            "run": "",
            "time": format_millis(_BEGIN + number),
            "data": f'{{"workflow_id":"order-{workflow}","step":"processing","progress":{page * 8},'
            f'"message":"Page {page} of 12 read"}}',
        }
        entry = Entry(StreamId(_BEGIN + number, 0), {name.encode(): value.encode() for name, value in fields.items()})
        yield Logged(_SOURCE, entry, False)


def write(count: int, parquet: Parquet, segments: Path, lines: JsonLines) -> None:
    """Write the events in both forms."""
    stretch: list[Logged] = []
    for logged in events(count):
        stretch.append(logged)
        if len(stretch) == _SEGMENT or logged.entry.offset == count:
            segment = Segment(_SOURCE.name, stretch[0].entry.stream_id, stretch[-1].entry.stream_id)
            parquet.write(stretch, segments / segment.path)
            lines.write(stretch)
            stretch = []


async def rebuild(redis: Redis, archive: Archive) -> Times:
    """Fold all views from the archive, and write them."""
    deployment = Deployment(ArchiveSettings(stream_max_entries=_FEED), redis, Keys(), archive)
    comparer = Comparer(deployment, Selection(), with_feeds=True)
    began, folded, views = time.perf_counter(), 0.0, 0
    async for topics in comparer.groups():
        folded = folded or time.perf_counter() - began
        await together(_replace(comparer, topic) for topic in topics)
        views += len(topics)
    return Times(folded, time.perf_counter() - began, views)


async def _replace(comparer: Comparer, topic: Topic) -> None:
    comparison = await comparer.compare(topic)
    async with comparer.replacer.replacing(topic) as replacement:
        if not await replacement.put(comparison.live, comparison.fresh):
            raise RuntimeError(f"somebody else writes {topic.path}")


def fold_lines(lines: JsonLines) -> float:
    """Fold all views from the JSON lines; returns the seconds."""
    folds: dict[Topic, Fresh] = {}
    began = time.perf_counter()
    for line in lines.read():
        fields = {name.encode(): value.encode() for name, value in json.loads(line).items()}
        record = decode(_SOURCE, Entry(StreamId.parse(fields.pop(b"stream_id")), fields))
        for topic in record.topics:
            if topic not in folds:
                folds[topic] = Fresh(topic, _FEED)
            folds[topic].take(record)
    return time.perf_counter() - began


async def measure(folder: Path, count: int) -> None:
    """Write, fold, rebuild, and print."""
    lines, parquet = JsonLines(folder / "lines"), Parquet(folder / "sorting")
    write(count, parquet, folder / "segments", lines)
    archive = Archive(FolderStore(folder / "segments"), Spool(folder / "spool"), parquet)
    pin(os.getpid(), 1)  # which Redis gets from us
    with redis_server(folder / "redis") as server:
        pin(os.getpid(), 0)
        async with command_client(server.address) as redis:
            ours = await rebuild(redis, archive)
    theirs = fold_lines(lines)
    rows = [
        ["segments", f"{count / ours.folded:,.0f}", f"{count / ours.written:,.0f}"],
        ["JSON lines with zstd", f"{count / theirs:,.0f}", ""],
    ]
    print(f"{count:,} events, {ours.views} views\n")
    print(table(("from", "folded, events/s", "folded and written, events/s"), rows))
    archive.close()
    lines.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="some thousand events: shows that it works")
    size = 3_000 if parser.parse_args().short else 1_000_000
    with tempfile.TemporaryDirectory() as directory:
        pin(os.getpid(), 0)
        expect_many_objects()
        asyncio.run(measure(Path(directory), size))
