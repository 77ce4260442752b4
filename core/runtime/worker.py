"""One of several processes that serve a port together: its number, its socket, and what it knows of the others."""

import asyncio
import mmap
import os
import shutil
import signal
import socket
import struct
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from core.runtime.http import HttpService
from core.runtime.tasks import running

_VARIABLE: Final = "PIPAI_WORKER"
_BEAT_EVERY: Final = 1.0
_FRESH_SECONDS: Final = 5.0
"""Without a sign for so long a worker is not ready: it was killed, or stands still."""


class Beats:
    """When each of the workers was last ready, by the machine's clock, in memory they share."""

    _ENTRY: Final = struct.Struct("d")

    def __init__(self, folder: Path, count: int) -> None:
        path = folder / "beats"
        with path.open("a+b") as file:
            file.truncate(count * self._ENTRY.size)
            self._entries = mmap.mmap(file.fileno(), count * self._ENTRY.size)
        self._count = count

    def beat(self, number: int) -> None:
        """This worker is ready."""
        self._ENTRY.pack_into(self._entries, number * self._ENTRY.size, time.monotonic())

    def forget(self, number: int) -> None:
        """It has ended."""
        self._ENTRY.pack_into(self._entries, number * self._ENTRY.size, 0.0)

    def missing(self) -> str | None:
        """Why the service as a whole is not ready; None when all workers are."""
        oldest = time.monotonic() - _FRESH_SECONDS
        ready = sum(beat > oldest for (beat,) in self._ENTRY.iter_unpack(self._entries[:]))
        return None if ready == self._count else f"{ready} of {self._count} workers are ready"


@dataclass(frozen=True, slots=True)
class Worker:
    """One of ``count`` workers; ``file`` is the number of the open socket it serves, ``folder`` is what they share."""

    number: int
    count: int
    file: int
    folder: Path

    @classmethod
    def this(cls) -> Self | None:
        """What this process is; None when it serves alone."""
        told = os.environ.get(_VARIABLE)
        if told is None:
            return None
        number, count, file, folder = told.split(":", 3)
        return cls(int(number), int(count), int(file), Path(folder))

    def environment(self) -> dict[str, str]:
        """What has a process be this worker."""
        return {
            _VARIABLE: f"{self.number}:{self.count}:{self.file}:{self.folder}",
            "PROMETHEUS_MULTIPROC_DIR": str(self.folder),
        }

    def listener(self) -> socket.socket:
        """The socket to serve."""
        return socket.socket(fileno=self.file)

    def as_one(self, service: HttpService) -> HttpService:
        """The service, ready when it is in all workers."""
        beats = Beats(self.folder, self.count)

        async def beat() -> None:
            while True:
                if await service.ready() is None:
                    beats.beat(self.number)
                await asyncio.sleep(_BEAT_EVERY)

        @asynccontextmanager
        async def lifespan() -> AsyncGenerator[None]:
            async with service.lifespan(), running(beat()):
                yield

        async def ready() -> str | None:
            return await service.ready() or beats.missing()

        return replace(service, lifespan=lifespan, ready=ready)


def end_with_parent(folder: Path) -> None:
    """End as at a signal when the process that holds the other end of stdin is gone; it left ``folder`` behind then."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        shutil.rmtree(folder, ignore_errors=True)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
