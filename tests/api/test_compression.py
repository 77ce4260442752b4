"""Streams as gzip: every event can be read when it comes, and the end is a proper end."""

import asyncio
import random
import re
import zlib

import pytest

from services.api.compression import accepts_gzip
from services.api.outlets import gzip_trailer
from services.api.pieces import Piece, chunk
from tests.api.conftest import Api, Producer, Serve
from tests.api.stream import SECONDS
from tests.conftest import wait_until


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, GZIP;q=0.8, *;q=0.1", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, identity", False),
        ("*", True),
        ("*;q=0", False),
        ("identity", False),
        ("gzip;q=high", False),
        ("x-gzip", True),
    ],
)
def test_what_a_client_says_of_gzip_is_understood(header: str | None, *, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


def test_what_cannot_be_compressed_becomes_hardly_longer() -> None:
    for size in range(300):
        assert len(Piece(random.Random(size).randbytes(size)).deflated) <= size + 10


def test_any_shared_pieces_after_a_header_are_one_gzip_stream() -> None:
    text = random.Random(1).choices(b"abcdefghijklmnopqrstuvwxyz \n", k=200_000)
    sizes = [7, 1, 0, 200_000, 14, 99, 100, 101, 4095, 4096, 4097, 7, 70_000, 14]
    pieces = [Piece(bytes(text[:size])) for size in sizes]
    reader = zlib.decompressobj(wbits=31)
    reader.decompress(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")
    crc = size = 0
    for piece in pieces:
        assert piece.deflated_chunk == chunk(piece.deflated)
        assert reader.decompress(piece.deflated) == piece.raw
        crc, size = zlib.crc32(piece.raw, crc), size + len(piece.raw)
    reader.decompress(gzip_trailer(crc, size))
    assert reader.eof


@pytest.mark.usefixtures("brief_farewell")
async def test_curl_reads_a_compressed_stream_as_it_happens(api: Api, producer: Producer) -> None:
    curl = await asyncio.create_subprocess_exec(
        *("curl", "-sNi", "--compressed", f"http://127.0.0.1:{api.port}/stream/workflow/w"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert curl.stdout is not None
    async with asyncio.timeout(SECONDS):
        head = await curl.stdout.readuntil(b"\r\n\r\n")
        assert b"content-encoding: gzip" in head
        assert b"vary: Accept-Encoding" in head
        connected = await curl.stdout.readuntil(b"\n\n")
        assert b"event: connected" in connected
        for at in (1, 2, 3):
            await producer.progress("w", at, message="word " * 500)
            event = await curl.stdout.readuntil(b"\n\n")
            assert b'"progress":%d' % at in event
        await producer.progress("w", 100)
        rest = await curl.stdout.read()
        assert await curl.wait() == 0
    assert re.findall(rb"^event: (.*)$", rest, re.MULTILINE) == [b"workflow_progress", b"disconnected"]


async def test_compressed_and_plain_viewers_get_the_same_and_the_compressed_less(api: Api, producer: Producer) -> None:
    plain, compressed = (
        await asyncio.open_connection("127.0.0.1", api.port),
        await asyncio.open_connection("127.0.0.1", api.port),
    )
    plain[1].write(b"GET /stream/workflow/w HTTP/1.1\r\nHost: t\r\n\r\n")
    compressed[1].write(b"GET /stream/workflow/w HTTP/1.1\r\nHost: t\r\nAccept-Encoding: gzip\r\n\r\n")
    texts, sizes = [b"", b""], [0, 0]

    async def read(number: int, reader: asyncio.StreamReader) -> None:
        unzip = zlib.decompressobj(wbits=31) if number else None
        await reader.readuntil(b"\r\n\r\n")
        while b'"progress":9}' not in texts[number].replace(b',"timestamp"', b"}"):
            data = await reader.readexactly(int(await reader.readline(), 16))
            await reader.readexactly(2)
            sizes[number] += len(data)
            texts[number] += unzip.decompress(data) if unzip else data

    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(read(0, plain[0]))
        tasks.create_task(read(1, compressed[0]))
        await wait_until(lambda: all(b"connected" in text for text in texts))
        for at in range(5):
            await producer.progress("w", at, metadata={"text": "word " * 2_000})
        await producer.progress("w", 9)
    for _, writer in (plain, compressed):
        writer.close()
        await writer.wait_closed()
    events = [re.findall(rb"id: .*\nevent: workflow_progress\n.*\n", text) for text in texts]
    assert events[0] == events[1]
    assert len(events[0]) == 6
    assert sizes[1] * 10 < sizes[0]


async def test_a_cache_is_told_that_a_stream_depends_on_what_its_viewer_accepts(api: Api) -> None:
    for headers in ({}, {"Accept-Encoding": "gzip"}):
        async with api.watching("/stream/workflow/w", headers, read=False) as stream:
            assert stream.headers["vary"] == "Accept-Encoding"


async def test_compression_can_be_switched_off(serve: Serve) -> None:
    async with (
        serve(stream_compression=False) as api,
        api.watching("/stream/workflow/w", {"Accept-Encoding": "gzip"}) as stream,
    ):
        assert "content-encoding" not in stream.headers
        assert (await stream.next()).event == "connected"
