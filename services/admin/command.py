"""What a command of ``pipai-admin`` is, and what it works with."""

from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from core.log.archive.archive import Archive
from core.log.archive.place import ArchiveSettings
from core.log.history import History
from core.log.keys import Keys
from core.log.reader import LogReader

DONE: Final = 0
FOUND: Final = 1
"""The command worked, and what it looked for (a difference, something that cannot be verified) is there."""
REFUSED: Final = 2
"""The command was refused, or could not go on; the message says why, and whether anything was done."""


class RefusedError(Exception):
    """A command that must not be carried out as things stand; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The deployment a command works on; without an ``archive`` its history is what the log still has."""

    settings: ArchiveSettings
    redis: Redis
    keys: Keys
    archive: Archive | None = None

    @property
    def history(self) -> History:
        """All of its events, wherever they are."""
        return History(LogReader(self.redis, self.keys), self.keys, self.archive)


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its arguments, and what carries it out and returns the exit code.

    ``guarded``: it is refused when ``STREAM_PARTITIONS`` here is not the deployment's.
    """

    name: str
    help: str
    add_arguments: Callable[[ArgumentParser], None]
    carry_out: Callable[[Deployment, Namespace], Awaitable[int]]
    guarded: bool = True
