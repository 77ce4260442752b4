"""The connection between a server and its readers."""

import asyncio

from tests.api.fault_proxy import FaultProxy


class Line(FaultProxy):
    """Remembers the heads of what was answered over it, and can break in the middle of an event."""

    def __init__(self, scheme: str, host: str, port: int) -> None:
        super().__init__(scheme, host, port)
        self.heads: list[str] = []
        self.parts = 0
        """How often something came from the server since the head of its answer."""
        self._breaking = False

    @property
    def encodings(self) -> set[str]:
        """How the streams that passed were encoded."""
        streams = [head for head in self.heads if "\r\ncontent-type: text/event-stream" in head]
        return {"gzip" if "\r\ncontent-encoding: gzip\r\n" in head else "plain" for head in streams}

    @property
    def broken(self) -> bool:
        """Whether it broke, and is not mended by `release`."""
        return self._cut

    def break_soon(self) -> None:
        """Let half of what the server sends next pass, and then nothing."""
        self._breaking = True

    async def _answer(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        head = await source.readuntil(b"\r\n\r\n")
        self.heads.append(head.decode().lower())
        sink.write(head)
        while data := await source.read(65536):
            self.parts += 1
            if self._breaking:
                sink.write(data[: len(data) // 2])
                self._breaking, self._cut = False, True
                return
            sink.write(data)
            await sink.drain()
