"""A TCP proxy before Redis that can take away the reply to a script call, and with it the connection."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Self
from urllib.parse import urlsplit


class ReplyThief:
    """Passes everything on, until it is told to steal."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.left = 0
        self.spared = 0
        self.stolen = 0

    @classmethod
    @asynccontextmanager
    async def before(cls, url: str) -> AsyncGenerator[Self]:
        """A proxy to the server of `url`."""
        parts = urlsplit(url)
        thief = cls(parts.hostname or "", parts.port or 0)
        server = await asyncio.start_server(thief._accept, "127.0.0.1", 0)
        thief.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}{parts.path}"
        try:
            yield thief
        finally:
            server.close()
            for task in thief._tasks:
                task.cancel()
            await asyncio.gather(*thief._tasks, return_exceptions=True)

    def steal(self, replies: int) -> None:
        """Take away the next replies to script calls."""
        self.left = replies

    def spare(self, replies: int) -> None:
        """Let so many replies to script calls pass before any is taken."""
        self.spared = replies

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        there, back = await asyncio.open_connection(*self._target)
        with suppress(OSError, asyncio.CancelledError):
            await self._pass(reader, writer, there, back)
        writer.close()
        back.close()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        """Commands there and replies back, in turns: a client of ours waits for the one before it sends the next."""
        reading = asyncio.create_task(reader.read(1 << 20))
        answering = asyncio.create_task(there.read(1 << 20))
        in_script = False
        try:
            while True:
                await asyncio.wait([reading, answering], return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    command = reading.result()
                    if not command:
                        return
                    in_script |= b"EVALSHA" in command
                    back.write(command)
                    reading = asyncio.create_task(reader.read(1 << 20))
                if answering.done():
                    reply = answering.result()
                    if not reply or (in_script and self._takes(reply)):
                        return
                    in_script = False
                    writer.write(reply)
                    answering = asyncio.create_task(there.read(1 << 20))
        finally:
            reading.cancel()
            answering.cancel()
            await asyncio.gather(reading, answering, return_exceptions=True)

    def _takes(self, reply: bytes) -> bool:
        if self.left == 0 or reply.startswith(b"-NOSCRIPT"):
            return False
        if self.spared:
            self.spared -= 1
            return False
        self.left -= 1
        self.stolen += 1
        return True
