"""Readers that are programs: curl, and the npm packages run by Node."""

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.api.stream import parse_frame
from tests.readers.heard import Follow, Heard

_LONGEST = 1024 * 1024
"""Bytes of an event at most."""


def with_curl(*options: str) -> Follow:
    """``curl -N``, started again with the last id by whoever sits before it."""

    async def read(url: str, heard: Heard) -> None:
        last_id, over, pause = "", False, 1.0
        while not over:
            async with _running("curl", "-sNi", *options, "-H", f"Last-Event-ID: {last_id}", url) as stdout:
                with suppress(asyncio.IncompleteReadError):
                    if b" 204 " in (await stdout.readuntil(b"\r\n\r\n")).split(b"\r")[0]:
                        return  # nothing is left to come
                    while True:
                        line = await stdout.readline()
                        if line.startswith(b":"):
                            continue
                        frame = parse_frame((line + await stdout.readuntil(b"\n\n")).removesuffix(b"\n\n"))
                        assert frame.event is not None
                        last_id = frame.id or last_id
                        over = frame.event == "disconnected" and not frame.data["reconnect"]
                        pause = frame.retry / 1000 if frame.retry is not None else pause
                        heard.told(frame.event, last_id, frame.raw.decode().rpartition("\ndata: ")[2])
            await asyncio.sleep(pause)

    return read


def with_node(program: Path) -> Follow:
    """A program that prints type, id and data of each event as a line of JSON."""

    async def read(url: str, heard: Heard) -> None:
        async with _running("node", str(program), url) as stdout:
            async for line in stdout:
                heard.told(*json.loads(line))

    return read


@asynccontextmanager
async def _running(*command: str) -> AsyncGenerator[asyncio.StreamReader]:
    """What the program prints; it is not left behind."""
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, limit=_LONGEST)
    try:
        assert process.stdout is not None
        yield process.stdout
        await process.wait()
    finally:
        await _end(process)


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
