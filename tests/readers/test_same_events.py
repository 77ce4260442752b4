"""Readers that others wrote get the same events, whatever they are and however often they are cut off."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tests.api.conftest import Api, Producer
from tests.api.stream import SECONDS
from tests.conftest import wait_until
from tests.readers.heard import Event, Heard, Reader
from tests.readers.line import Line

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.usefixtures("brief_farewell")]

ODD = "a\r\nb\n\nc \u2028\u2029\x85\x0b\x0c\x1c\x00 data: x\nid: 1\n\n ✓ 𝄞 \ufeff"
"""Text that ends lines, messages or streams for a reader or an encoder that is not careful."""

LONG = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz ", k=50_000))
"""More than a reader takes at once, compressed or not."""

WITH_NPM = (pytest.mark.npm, pytest.mark.node)


@pytest.fixture(
    params=[
        "curl",
        "curl_compressed",
        "httpx_sse",
        pytest.param("npm_eventsource", marks=WITH_NPM),
        pytest.param("npm_eventsource_parser", marks=WITH_NPM),
        pytest.param("chromium_eventsource", marks=pytest.mark.chromium),
        pytest.param("chromium_fetch", marks=pytest.mark.chromium),
    ]
)
def reader(request: pytest.FixtureRequest) -> Reader:
    """Each of them by turns."""
    return request.getfixturevalue(request.param)


async def test_a_reader_gets_every_event_once_and_goes_on_after_one_that_came_half(
    reader: Reader, api: Api, producer: Producer, line: Line
) -> None:
    """The connection breaks in the middle of an event, and nobody is let in before the next has happened."""
    async with _following(reader, line) as heard:
        await heard.until("connected", 1)
        quiet = line.parts
        await wait_until(lambda: line.parts > quiet, message="no heartbeat came")
        await producer.progress("w", 10, message=ODD)
        await heard.until("workflow_progress", 1)
        await producer.progress("w", 20, metadata={"text": LONG})
        await heard.until("workflow_progress", 2)
        line.break_soon()
        await producer.progress("w", 30, message=ODD)
        await wait_until(lambda: line.broken)
        await producer.progress("w", 40)
        line.release()
        await heard.until("workflow_progress", 4)
        await producer.progress("w", 50)
        await heard.until("workflow_progress", 5)
        await producer.progress("w", 100, result={"text": LONG})
    progress = heard.of("workflow_progress")
    assert progress == await _history(api)
    assert [data["progress"] for data in heard.data_of("workflow_progress")] == [10, 20, 30, 40, 50, 100]
    assert {data["message"] for data in heard.data_of("workflow_progress") if "message" in data} == {ODD}
    assert [data["resumed"] for data in heard.data_of("connected")] == [False, True]
    assert [event.id for event in heard.of("connected")] == ["0", progress[1].id]
    assert [data["reason"] for data in heard.data_of("disconnected")] == ["ended"]
    assert len(heard) == len(progress) + 3
    assert line.encodings == {reader.encoding}


@pytest.mark.parametrize("settings", [{"stream_lifetime": 1}], ids=["lives for a second"])
async def test_a_reader_whose_stream_has_lived_its_time_comes_back_and_misses_nothing(
    reader: Reader, producer: Producer, line: Line
) -> None:
    """The stream ends properly here, again and again; with nothing left to send, the answer to coming back is 204."""
    async with _following(reader, line) as heard:
        await heard.until("connected", 1)
        await producer.progress("w", 10)
        await heard.until("disconnected", 1)
        await producer.progress("w", 20)
        await heard.until("workflow_progress", 2)
        await heard.until("connected", 3)
        await producer.progress("w", 100)
    assert [data["progress"] for data in heard.data_of("workflow_progress")] == [10, 20, 100]
    assert [event.id.rpartition(".")[2] for event in heard.of("workflow_progress")] == ["1", "2", "3"]
    first, *again = heard.data_of("connected")
    assert first["resumed"] is False
    assert all(data["resumed"] for data in again)
    assert heard.data_of("disconnected")[0].items() >= {"reason": "lifetime", "reconnect": True}.items()


@asynccontextmanager
async def _following(reader: Reader, line: Line) -> AsyncGenerator[Heard]:
    """What the reader tells of workflow `w` in the block; waits for it to be done, and does not leave it behind."""
    heard = Heard()
    reading = asyncio.create_task(reader.follow(f"{line.url}/stream/workflow/w", heard))
    try:
        yield heard
        async with asyncio.timeout(SECONDS):
            await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _history(api: Api) -> list[Event]:
    """The events as a viewer sees them on the bare connection who reads them all again."""
    async with api.watching("/stream/workflow/w?cursor=0") as stream:
        _connected, *frames, _farewell = await stream.rest()
    assert [frame.pos for frame in frames] == [1, 2, 3, 4, 5, 6]
    return [Event(str(frame.event), str(frame.id), frame.raw.decode().rpartition("\ndata: ")[2]) for frame in frames]
