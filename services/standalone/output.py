"""What is shown and kept of the services' log lines."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, TextIO

ALL: Final = "all"
"""Name of the log that has every line of every service, in the order they came."""

OWN_NAME: Final = "run"
FILE_LIMIT: Final = 5 * 1024 * 1024
LONGEST_LINE: Final = 64 * 1024
COLOURS: Final = (36, 33, 32, 35, 34, 96)


class Output:
    """Shows lines with their service's name in front, and keeps them in `folder`: ≤ 10 MiB per log.

    `terminal` is where the lines are shown; colours are used when it is a terminal and NO_COLOR is not set.
    """

    def __init__(self, folder: Path, terminal: TextIO = sys.stdout) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._terminal: TextIO | None = terminal
        self._coloured = terminal.isatty() and not os.environ.get("NO_COLOR")
        self._files: dict[str, RotatingFileHandler] = {}

    def say(self, text: str) -> None:
        """Show and keep a line of the supervisor itself."""
        self._line(OWN_NAME, text)

    def show(self, text: str) -> None:
        """Show lines that are not worth keeping."""
        try:
            if self._terminal is not None:
                self._terminal.write(f"{text}\n")
                self._terminal.flush()
        except OSError:
            self._terminal = None  # nobody reads any more (`./run up | head`): the services go on

    async def copy(self, name: str, read_end: int) -> None:
        """Show and keep what a service writes to the pipe `read_end`, until it is closed; closes it too."""
        async for line in _lines(read_end):
            self._line(name, line)

    def close(self) -> None:
        """Close the log files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _line(self, name: str, text: str) -> None:
        self._keep(name, text)
        self._keep(ALL, f"{name:<9} {text}")
        self.show(f"{self._prefix(name)} {text}")

    def _prefix(self, name: str) -> str:
        if not self._coloured:
            return f"{name:<9}|"
        return f"\x1b[{COLOURS[sum(name.encode()) % len(COLOURS)]}m{name:<9}|\x1b[0m"

    def _keep(self, name: str, text: str) -> None:
        if name not in self._files:
            path = self._folder / f"{name}.log"
            self._files[name] = RotatingFileHandler(path, maxBytes=FILE_LIMIT, backupCount=1, encoding="utf-8")
        self._files[name].emit(logging.LogRecord(name, logging.INFO, "", 0, text, None, None))


async def _lines(read_end: int) -> AsyncIterator[str]:
    """Lines from a pipe. A line longer than 64 KiB comes in pieces."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
    )
    rest = b""
    try:
        while chunk := await reader.read(LONGEST_LINE):
            *whole, rest = (rest + chunk).split(b"\n")
            if len(rest) > LONGEST_LINE:
                whole, rest = [*whole, rest], b""
            for line in whole:
                yield line.decode(errors="replace").rstrip("\r")
        if rest:
            yield rest.decode(errors="replace")
    finally:
        transport.close()
