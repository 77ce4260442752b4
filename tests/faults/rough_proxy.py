"""A proxy that also loses replies and slows down."""

import asyncio
from random import Random

from tests.api.fault_proxy import FaultProxy


class RoughProxy(FaultProxy):
    """``dropping``: how many of a hundred replies are lost, each with its connection; ``delay`` in seconds each way."""

    dropping = 0
    delay = 0.0
    random = Random()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        passing = [asyncio.create_task(self._pass(reader, back)), asyncio.create_task(self._answer(there, writer))]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)
            back.close()

    async def _answer(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await asyncio.sleep(self.delay)
            if self.random.random() * 100 < self.dropping:
                return  # what was asked for is done, and nobody hears of it
            await self._open.wait()
            sink.write(data)
            await sink.drain()
