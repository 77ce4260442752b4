"""A proxy that also loses replies and slows down."""

import asyncio
from random import Random

from tests.api.fault_proxy import FaultProxy


class RoughProxy(FaultProxy):
    """``dropping``: how many of a hundred replies are lost, each with its connection; ``delay`` in seconds each way."""

    dropping = 0
    delay = 0.0
    random = Random()

    async def _answer(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await asyncio.sleep(self.delay)
            if self.random.random() * 100 < self.dropping:
                return  # what was asked for is done, and nobody hears of it
            await self._open.wait()
            sink.write(data)
            await sink.drain()
