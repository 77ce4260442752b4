"""The peer of the archive's measurements: a line of JSON for each event, many in a file that is compressed with zstd.

The same library compresses and reads. What is looked for has to be read for: nothing says where it is.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import duckdb

from core.log.archive.durable import sync
from core.log.reader import Logged

_PAGE: Final = 2_048
_FORM: Final = "header false, quote '', escape '', delimiter '\x01', compression zstd"
_READ: Final = "header = false, quote = '', escape = '', delim = '\x01', compression = 'zstd', auto_detect = false"


class JsonLines:
    """Files of a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._files = 0
        self._database = duckdb.connect(config={"threads": 1})

    def write(self, entries: Sequence[Logged]) -> int:
        """Write a file that is on the disk; returns its bytes."""
        lines = [json.dumps({name.decode(): value.decode() for name, value in _fields(logged)}) for logged in entries]
        file = self._folder / f"{self._files:06}.zst"
        self._files += 1
        self._database.execute(f"COPY (SELECT unnest(?::VARCHAR[])) TO '{file}' (FORMAT csv, {_FORM})", [lines])
        sync(file)
        return file.stat().st_size

    def find(self, topic: str, limit: int) -> int:
        """How many of the first ``limit`` events of a topic there are."""
        source = f"read_csv('{self._folder}/*.zst', columns = {{'line': 'VARCHAR'}}, {_READ})"
        question = f"SELECT line FROM {source} WHERE contains(line, ?) LIMIT ?"  # noqa: S608 - of ours
        return len(self._database.execute(question, [f'"topic": "{topic}"', limit]).fetchall())

    def read(self) -> Iterator[str]:
        """All lines, in the order in which they were written."""
        for number in range(self._files):
            source = f"read_csv('{self._folder}/{number:06}.zst', columns = {{'line': 'VARCHAR'}}, {_READ})"
            reader = self._database.execute(f"SELECT line FROM {source}")  # noqa: S608 - of ours
            while rows := reader.fetchmany(_PAGE):
                yield from (line for (line,) in rows)

    def close(self) -> None:
        """Give back what it holds."""
        self._database.close()


def _fields(logged: Logged) -> list[tuple[bytes, bytes]]:
    return [*logged.entry.fields.items(), (b"stream_id", str(logged.entry.stream_id).encode())]
