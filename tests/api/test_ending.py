"""How a stream ends when its run has: told, and not come back to."""

import asyncio

import pytest

from pipai_contracts.events import AiProgress
from tests.api.conftest import Api, Producer, Serve
from tests.api.stream import Frame, Stream
from tests.conftest import wait_until

ENDED = {"reason": "ended", "reconnect": False}


def _farewell(frame: Frame) -> dict[str, object]:
    assert frame.event == "disconnected"
    assert frame.id is None
    return {name: value for name, value in frame.data.items() if name != "timestamp"}


async def test_a_stream_ends_two_seconds_after_its_run(api: Api, producer: Producer) -> None:
    await producer.progress("w", 50)
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await stream.next()
        await producer.progress("w", 100, result={"pages": 3})
        ended = await stream.next()
        loop = asyncio.get_running_loop()
        began = loop.time()
        [farewell] = await stream.rest()

    assert ended.data["result"] == {"pages": 3}
    assert _farewell(farewell) == ENDED
    assert loop.time() - began > 1.8


@pytest.mark.usefixtures("brief_farewell")
@pytest.mark.parametrize("how", [{"error": "broken file"}, {"canceled": True}])
async def test_a_failed_or_canceled_run_ends_its_stream_too(
    api: Api, producer: Producer, how: dict[str, object]
) -> None:
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await producer.progress("w", 30, **how)
        last, farewell = await stream.rest()
    assert how.items() <= last.data.items()
    assert _farewell(farewell) == ENDED


@pytest.mark.usefixtures("brief_farewell")
async def test_who_comes_late_to_a_finished_run_gets_its_result_and_the_end(api: Api, producer: Producer) -> None:
    await producer.progress("w", 50, 100, result={"pages": 3})
    async with api.watching("/stream/workflow/w") as stream:
        connected, latest, farewell = await stream.rest()
    assert connected.data["view"]["status"] == "completed"
    assert (latest.data["progress"], latest.data["result"], latest.id) == (100, {"pages": 3}, None)
    assert _farewell(farewell) == ENDED


async def test_who_has_seen_everything_of_a_finished_run_gets_204(api: Api, producer: Producer) -> None:
    """A browser's own EventSource stops reconnecting at 204 only."""
    await producer.progress("w", 50, 100)
    cursor = (await api.client.get("/views/workflow/w")).json()["cursor"]
    for answer in (
        await api.client.get("/stream/workflow/w", headers={"Last-Event-ID": cursor}),
        await api.client.get("/stream/workflow/w", params={"cursor": cursor}),
    ):
        assert answer.status_code == 204
        assert answer.content == b""
        assert "no-store" in answer.headers["cache-control"]


@pytest.mark.usefixtures("brief_farewell")
async def test_who_has_missed_the_end_gets_the_rest_and_then_the_farewell(api: Api, producer: Producer) -> None:
    await producer.progress("w", 10, 50, 100)
    epoch = (await api.client.get("/views/workflow/w")).json()["cursor"].split(".")[0]
    async with api.watching("/stream/workflow/w", {"Last-Event-ID": f"{epoch}.1"}) as stream:
        connected, *missed, farewell = await stream.rest()
    assert connected.data["resumed"] is True
    assert [frame.pos for frame in missed] == [2, 3]
    assert _farewell(farewell) == ENDED


@pytest.mark.usefixtures("brief_farewell")
async def test_a_run_that_begins_again_keeps_the_stream_open(serve: Serve, producer: Producer) -> None:
    async with serve(heartbeat_interval=1) as api, api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await producer.progress("w", 100, run_id="r1")
        assert (await stream.next()).data["progress"] == 100
        await producer.progress("w", 0, run_id="r2")
        assert (await stream.next()).data["run_id"] == "r2"
        await stream.comments(2)  # longer than the stream of a finished run stays open
        await producer.progress("w", 60, run_id="r2")
        assert (await stream.next()).data["progress"] == 60
        await producer.progress("w", 100, run_id="r2")
        assert [frame.event for frame in await stream.rest()] == ["workflow_progress", "disconnected"]


async def test_what_trickles_in_after_the_end_does_not_keep_the_stream_open(api: Api, producer: Producer) -> None:
    loop = asyncio.get_running_loop()
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await producer.progress("w", 100)
        await stream.next()
        began = loop.time()
        trickling = asyncio.create_task(_trickle(producer, stream))
        *deltas, farewell = await stream.rest()
        lasted = loop.time() - began
        await trickling

    assert {frame.event for frame in deltas} == {"ai_progress"}
    assert _farewell(farewell) == ENDED
    assert 1.8 < lasted < 10


async def _trickle(producer: Producer, stream: Stream) -> None:
    """A delta each time the viewer has had the one before, until the stream ends."""
    while not stream.ended:
        seen = len(stream.frames)
        await producer.publish(AiProgress(workflow_id="w", step="summarise", delta="x"))
        await wait_until(lambda seen=seen: stream.ended or len(stream.frames) > seen)


@pytest.mark.usefixtures("brief_farewell")
async def test_a_late_event_is_told_but_does_not_reopen_the_run(api: Api, producer: Producer) -> None:
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await producer.progress("w", 100, run_id="r1")
        await producer.progress("w", 70, run_id="r1")
        ended, late, farewell = await stream.rest()
    assert "late" not in ended.data
    assert (late.data["progress"], late.data["late"], late.pos) == (70, True, 2)
    assert _farewell(farewell) == ENDED
