"""What it costs to keep every event, and to find some: ``./run bench archive [--short]``.

Typical progress events of many workflows go into segments as the archiver writes them, on one core: from entries in
memory to a file that is on the disk. Beside it the same events as JSON lines with zstd. At some sizes the first page
of a workflow's events is looked for: medians of five workflows, whose ids are random. Printed as Markdown tables.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Final

from bench.peers.json_lines import JsonLines
from bench.stand.cores import pin
from bench.stand.table import table
from core.log.archive.archive import Archive
from core.log.archive.folder import FolderStore
from core.log.archive.parquet import Parquet
from core.log.archive.segment import Segment
from core.log.archive.spool import Spool
from core.log.archive.wanted import Wanted
from core.log.entry import Entry
from core.log.keys import Keys
from core.log.reader import Logged
from pipai_contracts.record import StreamId
from pipai_contracts.times import format_millis

_SEGMENT: Final = 40_960
_COMPACTED: Final = 16
_BEGIN: Final = 1_735_689_600_000
_A_MILLISECOND: Final = 1
_WORKFLOW: Final = 50
"""Events of a workflow, about: at a size there are so many fewer workflows."""

_SOURCE: Final = Keys().source("workflow:progress", 0)
_PAGE: Final = 100
_ASKED: Final = 5


def events(count: int, start: int, random: Random) -> list[Logged]:
    """So many events, one a millisecond, of the workflows that run just then."""
    return [_event(number, random) for number in range(start, start + count)]


def _event(number: int, random: Random) -> Logged:
    workflow = number // 10_000 * (10_000 // _WORKFLOW) + random.randrange(10_000 // _WORKFLOW)
    milliseconds, page = _BEGIN + number // _A_MILLISECOND, random.randrange(1, 13)
    fields = {
        "id": f"{random.getrandbits(128):032x}",
        "type": "workflow_progress",
        "v": "1",
        "tenant": "default",
        "topic": f"workflow:{_id(workflow)}",
        "offset": str(number + 1),
        "user": f"user-{workflow % 1000}",
        "run": "",
        "time": format_millis(milliseconds),
        "data": f'{{"workflow_id":"{_id(workflow)}","step":"processing","progress":{page * 8},'
        f'"message":"Page {page} of 12 read"}}',
    }
    stream_id = StreamId(milliseconds, 0)
    return Logged(_SOURCE, Entry(stream_id, {name.encode(): value.encode() for name, value in fields.items()}), False)


def _id(workflow: int) -> str:
    return blake2b(str(workflow).encode(), digest_size=8).hexdigest()


class Segments:
    """Ours: every sixteen segments are brought together, as the archiver does when they are many."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parquet = Parquet(folder / "sorting")
        self._archive = Archive(FolderStore(folder), Spool(folder / "spool"), self._parquet)
        self._small: list[Segment] = []

    def write(self, entries: Sequence[Logged]) -> int:
        """Write a segment that is on the disk; returns its bytes."""
        segment = Segment(_SOURCE.name, entries[0].entry.stream_id, entries[-1].entry.stream_id)
        self._small.append(segment)
        return self._parquet.write(entries, self._folder / segment.path)

    def compact(self) -> None:
        """Bring together what is much, and of one day."""
        if len(self._small) < _COMPACTED:
            return
        parts, self._small = self._small, []
        whole = Segment(_SOURCE.name, parts[0].first, parts[-1].last)
        self._parquet.bring_together([self._folder / part.path for part in parts], self._folder / whole.path)
        for part in parts:
            (self._folder / part.path).unlink()

    def find(self, topic: str, limit: int) -> int:
        """How many of the first ``limit`` events of a topic there are."""
        wanted = Wanted("default", kind="workflow", id=topic.partition(":")[2])
        return len(asyncio.run(self._archive.find(wanted, after=None, limit=limit)))

    def close(self) -> None:
        """Give back what it holds."""
        self._archive.close()


def measure(folder: Path, sizes: Sequence[int]) -> None:
    """Write up to each of the sizes, and look for workflows there."""
    ours, lines = Segments(folder / "segments"), JsonLines(folder / "lines")
    seconds, written = {"ours": 0.0, "lines": 0.0}, {"ours": 0, "lines": 0}
    random, number = Random(1), 0
    rows: list[list[str]] = []
    for size in sizes:
        while number < size:
            stretch = events(min(_SEGMENT, size - number), number, random)
            number += len(stretch)
            for name, way in (("ours", ours), ("lines", lines)):
                used = time.process_time()
                written[name] += way.write(stretch)
                seconds[name] += time.process_time() - used
            ours.compact()
        topics = [f"workflow:{_id(random.randrange(size // _WORKFLOW))}" for _ in range(_ASKED)]
        rows.append([f"{size:,}", _median(ours.find, topics), _median(lines.find, topics)])
    names = {"ours": "segments", "lines": "JSON lines with zstd"}
    columns = ("written", "events/s on one core", "bytes an event")
    print(
        table(columns, [[names[key], f"{number / seconds[key]:,.0f}", f"{written[key] / number:.1f}"] for key in names])
    )
    print()
    print(table(("events", "first page in segments, ms", "in JSON lines with zstd, ms"), rows))
    ours.close()
    lines.close()


def _median(find: Callable[[str, int], int], topics: Sequence[str]) -> str:
    times: list[float] = []
    for topic in topics:
        began = time.perf_counter()
        if not find(topic, _PAGE):
            raise LookupError(topic)
        times.append((time.perf_counter() - began) * 1000)
    return f"{statistics.median(times):,.0f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="some thousand events: shows that it works")
    counts = (2_000, 5_000) if parser.parse_args().short else (1_000_000, 3_000_000, 10_000_000)
    pin(os.getpid(), 0)
    with tempfile.TemporaryDirectory() as directory:
        measure(Path(directory), counts)
