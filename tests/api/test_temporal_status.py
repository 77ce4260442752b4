"""What Temporal says of a workflow, told soon after `connected` and never delaying it."""

import asyncio
from typing import Any

import pytest
from temporalio.client import Client

from core.runtime.clock import now
from core.runtime.temporal import LazyTemporal
from pipai_contracts.frames import TemporalAnswer
from services.api.asked import Asked
from services.api.channel import Channel
from services.api.starts import Arrival, arrive
from services.api.temporal_status import TemporalQuery
from tests.api.conftest import Producer, Serve
from tests.api.stream import Frame, Stream
from tests.conftest import wait_until


async def _answer(stream: Stream) -> Frame:
    frames = await stream.until(lambda frame: frame.event == "temporal_status")
    assert frames[0].event == "connected"
    assert frames[-1].id is None
    return frames[-1]


async def test_a_workflow_temporal_does_not_know_is_unknown(serve: Serve, temporal_address: str) -> None:
    async with serve(temporal_address=temporal_address) as api, api.watching("/stream/workflow/w?cursor=0") as stream:
        answer = await _answer(stream)
    assert (answer.data["workflow_id"], answer.data["status"]) == ("w", "unknown")
    assert answer.data["timestamp"].endswith("Z")
    assert "run_id" not in answer.data


async def test_the_answer_never_comes_before_connected(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis may take longer to say where a time is than Temporal takes to answer."""

    async def answered_at_once(_: TemporalQuery, workflow_id: str) -> TemporalAnswer:
        return TemporalAnswer(timestamp=now(), workflow_id=workflow_id, status="running")

    async def arrive_late(channel: Channel, asked: Asked) -> Arrival:
        for _ in range(10):
            await asyncio.sleep(0)  # the loop's turn: whatever was spawned before has run
        return await arrive(channel, asked)

    monkeypatch.setattr(TemporalQuery, "status", answered_at_once)
    monkeypatch.setattr("services.api.audience.arrive", arrive_late)
    async with (
        serve(temporal_address="127.0.0.1:1") as api,
        api.watching("/stream/workflow/w?from=2025-01-01T00:00:00Z") as stream,
    ):
        assert (await _answer(stream)).data["status"] == "running"


async def test_a_running_and_an_ended_workflow_are_told_with_their_run(
    serve: Serve, temporal_address: str, key_prefix: str
) -> None:
    client = await Client.connect(temporal_address)
    handle = await client.start_workflow("Anything", id=key_prefix, task_queue=key_prefix)
    async with serve(temporal_address=temporal_address) as api:
        async with api.watching(f"/stream/workflow/{key_prefix}") as stream:
            running = await _answer(stream)
        await handle.terminate()
        ended = running
        while ended.data["status"] == "running":  # an answer may be a second old
            async with api.watching(f"/stream/workflow/{key_prefix}") as stream:
                ended = await _answer(stream)
    assert (running.data["status"], running.data["run_id"]) == ("running", handle.first_execution_run_id)
    assert running.data["started"].endswith("Z")
    assert "ended" not in running.data
    assert ended.data["status"] == "terminated"
    assert ended.data["ended"] >= ended.data["started"]


async def test_only_workflows_are_asked_about(serve: Serve, producer: Producer, temporal_address: str) -> None:
    async with serve(temporal_address=temporal_address) as api, api.watching("/stream/user/w") as stream:
        await stream.next()
        await producer.progress("any", 1, user_id="w")
        assert (await stream.next()).event == "workflow_progress"


async def test_a_temporal_that_never_answers_delays_nothing(serve: Serve, producer: Producer, black_hole: str) -> None:
    async with serve(temporal_address=black_hole) as api:
        began = asyncio.get_running_loop().time()
        async with api.watching("/stream/workflow/w") as stream:
            await stream.next()
            await producer.progress("w", 1)
            assert (await stream.next()).pos == 1
            assert asyncio.get_running_loop().time() - began < 1.5
            [answer] = await stream.until(lambda frame: frame.event == "temporal_status")
    assert answer.data["status"] == "unknown"
    assert "in time" in answer.data["message"]


async def test_a_temporal_that_is_away_or_cannot_exist_is_told_as_unknown(serve: Serve, producer: Producer) -> None:
    for address in ("127.0.0.1:1", "no address at all"):
        async with serve(temporal_address=address) as api, api.watching("/stream/workflow/w") as stream:
            assert (await _answer(stream)).data["status"] == "unknown"
            position = await producer.pos("workflow", "w")
            await producer.progress("w", 1)
            assert (await stream.next()).pos == position + 1


async def test_a_viewer_that_leaves_takes_the_question_along(serve: Serve, black_hole: str) -> None:
    async with serve(temporal_address=black_hole) as api:
        async with api.watching("/stream/workflow/w") as stream:
            await stream.next()

        async def gone() -> bool:
            return not any("ask" in repr(task.get_coro()) for task in asyncio.all_tasks())

        await wait_until(gone, 1)


class _Temporal(LazyTemporal):
    """Answers when it is let, and counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__(None)
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()

    async def client(self) -> Any:
        return self

    def get_workflow_handle(self, workflow_id: str) -> "_Temporal":
        self.asked.append(workflow_id)
        return self

    async def describe(self) -> Any:
        await self.may_answer.wait()
        raise TimeoutError


async def test_of_a_storm_of_viewers_one_asks_about_each_workflow() -> None:
    temporal = _Temporal()
    query = TemporalQuery(temporal)
    asking = [asyncio.create_task(query.status(f"w{number % 10}")) for number in range(1_000)]
    await wait_until(lambda: len(temporal.asked) == 10)
    temporal.may_answer.set()
    answers = await asyncio.gather(*asking)
    answers.append(await query.status("w0"))
    assert sorted(temporal.asked) == sorted(f"w{number}" for number in range(10))
    assert {answer.workflow_id for answer in answers if answer} == set(temporal.asked)


async def test_who_asks_just_as_the_last_one_leaves_is_answered() -> None:
    temporal = _Temporal()
    query = TemporalQuery(temporal)
    leaving = asyncio.create_task(query.status("w"))
    await wait_until(lambda: temporal.asked)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    staying = asyncio.create_task(query.status("w"))
    temporal.may_answer.set()
    answer = await staying
    assert answer is not None
    assert len(temporal.asked) == 2
