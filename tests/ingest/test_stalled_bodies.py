"""A body that stops coming is given up, and holds nothing that others wait for."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest

from tests.conftest import wait_until
from tests.ingest.conftest import Log, Serve, StoredFiles

BATCH = "/stream/publish/batch"
JSON = "application/json"
HALVES = {
    BATCH: JSON,
    "/stream/publish/workflow/w": JSON,
    "/stream/publish/events": "application/cloudevents-batch+json",
    "/stream/dead-letters/purge": JSON,
}


class Sender:
    """A connection of one's own, to send as much of a request as one likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def to(cls, client: httpx2.AsyncClient) -> AsyncGenerator["Sender"]:
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    async def begin(self, path: str, kind: str, length: int, start: bytes = b"") -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        await self.go_on(head.encode() + start)

    async def go_on(self, more: bytes) -> None:
        self._writer.write(more)
        await self._writer.drain()

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """Status and problem of the answer, after which the server has to hang up."""
        async with asyncio.timeout(10):
            told = await self._reader.read()
        head, _, body = told.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ingest.bodies.SILENCE", 0.3)


@pytest.fixture
async def uploads(serve: Serve, temporal_address: str, log: Log) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an ingest that takes documents."""
    await log.redis.set(log.keys.watched, "2999-01-01T00:00:00.000Z")
    async with serve(temporal_address=temporal_address, temporal_task_queue="nobody") as client:
        yield client


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize("start", [b"", b'[{"type":'], ids=["nothing", "half"])
@pytest.mark.parametrize("path", HALVES)
async def test_a_body_that_stops_coming_is_a_408_and_nothing_is_stored(
    client: httpx2.AsyncClient, log: Log, path: str, start: bytes
) -> None:
    async with Sender.to(client) as sender:
        await sender.begin(path, HALVES[path], 1000, start)
        status, problem = await sender.answer()

    assert (status, problem["type"]) == (408, "/problems/too-slow")
    assert await log.every_key() == {}


async def test_senders_that_stop_half_way_do_not_keep_out_others(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four that hold all the room there is for batches."""
    monkeypatch.setattr("services.ingest.batch.ROOM", 2000)
    async with serve() as client, AsyncExitStack() as stack:
        senders = [await stack.enter_async_context(Sender.to(client)) for _ in range(4)]
        for sender in senders:
            await sender.begin(BATCH, JSON, 1000, b"[" + b" " * 489)

        async def taken() -> bool:
            return (await client.post(BATCH, content=b"[]" + b" " * 100, headers={"content-type": JSON})).is_success

        async def full() -> bool:
            return not await taken()

        await wait_until(full, message="the stalled senders hold no room")
        monkeypatch.setattr("services.ingest.bodies.SILENCE", 0.3)
        for sender in senders:
            await sender.go_on(b" ")  # only from here on is the time short
        await wait_until(taken, message="the room was not given back")
        assert [(await sender.answer())[0] for sender in senders] == [408] * 4


async def test_a_body_that_trickles_in_is_given_up_after_a_while(
    client: httpx2.AsyncClient, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ingest.bodies.WHOLE", 0.5)
    async with Sender.to(client) as sender:
        await sender.begin(BATCH, JSON, 100_000, b"[")
        answered = asyncio.create_task(sender.answer())
        while not answered.done():
            await sender.go_on(b" ")
            await asyncio.wait([answered], timeout=0.02)
        status, _ = await answered

    assert status == 408
    assert await log.every_key() == {}


UPLOAD = "multipart/form-data; boundary=b"
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize("start", [b"", FORM, FORM + b"x" * 50_000], ids=["nothing", "head", "half"])
async def test_an_upload_that_stops_is_a_408_and_nothing_of_it_stays(
    uploads: httpx2.AsyncClient, log: Log, stored_files: StoredFiles, start: bytes
) -> None:
    async with Sender.to(uploads) as sender:
        await sender.begin("/upload", UPLOAD, 100_000, start)
        status, problem = await sender.answer()

    assert (status, problem["type"]) == (408, "/problems/too-slow")
    assert stored_files() == []
    assert await log.events("workflow:progress") == []


@pytest.mark.usefixtures("silence")
async def test_an_upload_may_take_its_time(
    uploads: httpx2.AsyncClient, stored_files: StoredFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large files on slow lines are what it is for: only a silence ends it."""
    monkeypatch.setattr("services.ingest.bodies.WHOLE", 0.1)

    async def slowly() -> AsyncIterator[bytes]:
        yield FORM
        for _ in range(30):
            await asyncio.sleep(0.02)  # the slow line
            yield b"x" * 1000
        yield b"\r\n--b--\r\n"

    answer = await uploads.post("/upload", content=slowly(), headers={"content-type": UPLOAD})

    assert answer.status_code == 202, answer.text
    assert [file.stat().st_size for file in stored_files()] == [30_000]
