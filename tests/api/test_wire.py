"""The bytes and headers of a stream, and real clients reading it."""

import asyncio
import re

import pytest

from pipai_contracts.events import Metadata, WorkflowProgress
from tests.api.conftest import Api, Producer, Serve
from tests.api.stream import SECONDS
from tests.conftest import wait_until


async def test_every_message_is_fields_on_lines_of_their_own_and_json_on_one_line(api: Api, producer: Producer) -> None:
    awkward = "line\nbreak\r\n\u2028 nul\u0000 data: x\n\nevent: y é 💡"
    async with api.watching("/stream/workflow/w") as stream:
        connected = await stream.next()
        await producer.progress("w", 7, message=awkward)
        event = await stream.next()

    assert re.fullmatch(rb"retry: 3000\nid: 0\nevent: connected\ndata: \{[^\n\r]*\}", connected.raw)
    assert re.fullmatch(
        rb'id: [0-9a-f]{8}\.1\nevent: workflow_progress\ndata: \{"workflow_id":"w","step":"work","progress":7,'
        rb'"message":"[^\n\r]*","timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"\}',
        event.raw,
    )
    assert event.data["message"] == awkward


async def test_metadata_and_result_arrive_as_they_were_sent(api: Api, producer: Producer) -> None:
    metadata: Metadata = {"big": 12345678901234567890123, "small": 1e-300, "nested": [{"": None}, [], {}], "é": False}
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await producer.progress("w", 7, metadata=metadata, result=[1, "two"])
        event = await stream.next()
    assert event.data["metadata"] == metadata
    assert event.data["result"] == [1, "two"]


async def test_headers_keep_caches_and_proxies_from_holding_a_stream_back(api: Api) -> None:
    async with api.watching("/stream/workflow/w") as stream:
        assert stream.headers["content-type"].split(";")[0] == "text/event-stream"
        assert stream.headers["x-accel-buffering"] == "no"
        assert stream.headers["cache-control"] == "no-store, private"
        assert "content-length" not in stream.headers
        assert "content-encoding" not in stream.headers


async def test_a_quiet_stream_has_heartbeat_comments(serve: Serve) -> None:
    async with serve(heartbeat_interval=1) as api, api.watching("/stream/workflow/w") as stream:
        await stream.next()
        comment = (await stream.comments(1))[0].raw
        assert comment == b": heartbeat"


@pytest.mark.usefixtures("brief_farewell")
async def test_every_viewer_gets_the_same_bytes(api: Api, producer: Producer) -> None:
    async with api.watching("/stream/workflow/w") as one, api.watching("/stream/workflow/w") as two:
        await one.next()
        await two.next()
        await producer.progress("w", 1, 100, result={"a": 1.10})
        first = [frame.raw for frame in await one.rest()][:2]
        second = [frame.raw for frame in await two.rest()][:2]
    assert first == second
    async with api.watching("/stream/workflow/w?cursor=0") as late:
        await late.next()
        assert [frame.raw for frame in await late.rest()][:2] == first


async def test_a_standard_client_reads_it(api: Api, producer: Producer) -> None:
    async with api.client.sse("/stream/workflow/w") as source:
        frames = aiter(source)
        connected = await anext(frames)
        assert (connected.event, connected.id, connected.retry) == ("connected", "0", 3000)
        await producer.progress("w", 30)
        event = await anext(frames)
        assert event.event == "workflow_progress"
        assert event.id.endswith(".1")


@pytest.mark.usefixtures("brief_farewell")
async def test_curl_shows_the_stream_as_it_happens(api: Api, producer: Producer) -> None:
    curl = await asyncio.create_subprocess_exec(
        "curl", "-sN", f"http://127.0.0.1:{api.port}/stream/workflow/w", stdout=asyncio.subprocess.PIPE
    )
    assert curl.stdout is not None
    async with asyncio.timeout(SECONDS):
        lines = [await curl.stdout.readline() for _ in range(5)]
        assert lines[2] == b"event: connected\n"
        await producer.publish(*[WorkflowProgress(workflow_id="w", step="s", progress=at) for at in (0, 50, 100)])
        rest = await curl.stdout.read()
        assert await curl.wait() == 0
    assert re.findall(rb"^event: (.*)$", rest, re.MULTILINE) == [*[b"workflow_progress"] * 3, b"disconnected"]
    assert re.findall(rb'"progress":(\d+)', rest) == [b"0", b"50", b"100"]


async def test_a_viewer_that_leaves_is_forgotten(api: Api, producer: Producer) -> None:
    for _ in range(3):
        async with api.watching("/stream/workflow/w") as stream, api.watching("/stream/user/u") as other:
            await stream.next()
            await other.next()
            assert await api.active_streams() == 2
        await producer.progress("w", 10)
        await wait_until(lambda: nobody(api))


async def nobody(api: Api) -> bool:
    return await api.active_streams() == 0
