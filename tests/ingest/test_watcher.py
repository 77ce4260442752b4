"""How workflows that ended outside of their worker end for their viewers."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from services.ingest import watcher
from services.standalone.embedded import temporal_server
from tests.conftest import wait_until
from tests.ingest.conftest import Fields, Log, Serve


@workflow.defn(name="DocumentAnalysis", sandboxed=False)
class Scripted:
    """Stands in for the document analysis: ends as it is told."""

    @workflow.run
    async def run(self, end: str) -> str:
        match end:
            case "fail":
                raise ApplicationError("broken", non_retryable=True)
            case "continue":
                workflow.continue_as_new("complete")
            case "wait":
                await asyncio.Event().wait()
            case _:
                pass
        return end


StartWorkflow = Callable[..., Awaitable[WorkflowHandle[object, object]]]


@pytest.fixture
async def temporal(temporal_address: str) -> Client:
    return await Client.connect(temporal_address, data_converter=pydantic_data_converter)


@pytest.fixture
async def start(temporal: Client, key_prefix: str) -> AsyncIterator[StartWorkflow]:
    """Starts a scripted document workflow, `document-<test>-<n>`, with a worker that runs it."""

    async def _start(end: str, *, lasts: timedelta | None = None, queue: str = key_prefix) -> object:
        file_id = f"{key_prefix}-{uuid4().hex[:6]}"
        return await temporal.start_workflow(
            "DocumentAnalysis",
            end,
            id=f"document-{file_id}",
            task_queue=queue,
            memo={"tenant": "default", "file_id": file_id, "user_id": "ada"},
            execution_timeout=lasts,
            retry_policy=RetryPolicy(maximum_attempts=1),
        )

    async with Worker(temporal, task_queue=key_prefix, workflows=[Scripted]):
        yield _start  # pyright: ignore[reportReturnType]


async def _told(log: Log, handle: WorkflowHandle[object, object]) -> list[Fields]:
    """Events about a workflow. The server is shared, so other tests' workflows are in the log too."""
    return [fields for fields in await log.events("workflow:progress") if fields["topic"] == f"workflow:{handle.id}"]


async def _file_events(log: Log, handle: WorkflowHandle[object, object]) -> list[Fields]:
    topic = handle.id.replace("document-", "file:", 1)
    return [fields for fields in await log.events("analysis:progress") if fields["topic"] == topic]


@pytest.mark.parametrize(("end", "status"), [("complete", "completed"), ("fail", "failed"), ("wait", "canceled")])
async def test_an_end_the_worker_told_is_repeated_for_the_workflow_only(
    serve: Serve, temporal_address: str, log: Log, start: StartWorkflow, end: str, status: str
) -> None:
    async with serve(temporal_address=temporal_address):
        handle = await start(end)
        if status == "canceled":
            await handle.cancel()
        [event] = await wait_until(lambda: _told(log, handle))

    assert event["type"] == "temporal_status"
    assert json.loads(event["data"]) == {"workflow_id": handle.id, "status": status}
    assert event["id"] == f"{handle.first_execution_run_id}:closed"
    assert event["run"] == handle.first_execution_run_id
    assert event["user"] == "ada"
    assert await _file_events(log, handle) == []


async def test_a_workflow_terminated_by_hand_ends_for_its_viewers_and_its_files(
    serve: Serve, temporal_address: str, log: Log, start: StartWorkflow
) -> None:
    async with serve(temporal_address=temporal_address):
        handle = await start("wait", queue="nobody-works-here")
        await handle.terminate("by hand")
        [event] = await wait_until(lambda: _told(log, handle))
        [file_event] = await wait_until(lambda: _file_events(log, handle))

    assert json.loads(event["data"])["status"] == "terminated"
    assert json.loads(file_event["data"])["error"] == "The analysis was terminated."
    assert file_event["run"] == event["run"] == handle.first_execution_run_id
    assert file_event["id"] == f"{handle.first_execution_run_id}:closed"


async def test_a_workflow_without_a_worker_ends_by_its_timeout(
    serve: Serve, temporal_address: str, log: Log, start: StartWorkflow
) -> None:
    async with serve(temporal_address=temporal_address):
        handle = await start("wait", queue="nobody-works-here", lasts=timedelta(seconds=1))
        [event] = await wait_until(lambda: _told(log, handle))
        [file_event] = await wait_until(lambda: _file_events(log, handle))

    assert json.loads(event["data"])["status"] == "timed_out"
    assert "longer" in json.loads(file_event["data"])["error"]


async def test_a_run_that_goes_on_in_another_has_not_ended(
    serve: Serve, temporal_address: str, log: Log, start: StartWorkflow
) -> None:
    async with serve(temporal_address=temporal_address):
        handle = await start("continue")
        [event] = await wait_until(lambda: _told(log, handle))

    assert json.loads(event["data"])["status"] == "completed"
    assert event["run"] != handle.first_execution_run_id


async def test_an_end_while_nobody_watched_is_told_once_by_all_who_watch_later(
    serve: Serve, temporal_address: str, log: Log, start: StartWorkflow
) -> None:
    async with serve(temporal_address=temporal_address):
        first = await start("complete")
        await wait_until(lambda: _told(log, first))
    second = await start("complete")
    await second.result()
    async with serve(temporal_address=temporal_address), serve(temporal_address=temporal_address):
        third = await start("complete")
        await wait_until(lambda: _told(log, third))
        await wait_until(lambda: _told(log, second))

    for handle in (first, second, third):
        assert len(await _told(log, handle)) == 1


async def test_the_position_in_redis_follows_the_ends(
    serve: Serve, temporal_address: str, log: Log, start: StartWorkflow
) -> None:
    async with serve(temporal_address=temporal_address):
        handle = await start("complete")
        [event] = await wait_until(lambda: _told(log, handle))

        async def position() -> bool:
            return (await log.redis.get(log.keys.watched) or b"").decode() >= event["time"]

        await wait_until(position)


async def test_it_goes_on_when_temporal_was_away_and_says_so_once(
    serve: Serve, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "CALL_TIMEOUT", 1)
    server = temporal_server(tmp_path / "temporal")
    with capture_logs() as lines, server:
        async with serve(temporal_address=server.address):
            temporal = await Client.connect(server.address, data_converter=pydantic_data_converter)
            handle = await temporal.start_workflow("DocumentAnalysis", "wait", id="document-x", task_queue="q")
            server.kill()
            await wait_until(lambda: [line for line in lines if "temporal watcher fails" in line["event"]], timeout=30)
            server.start()
            await handle.terminate()
            await wait_until(lambda: _told(log, handle), timeout=40)

    told = [line["event"] for line in lines if "temporal watcher" in line["event"]]
    assert told == [
        "stream temporal watcher fails and is tried again",
        "stream temporal watcher works again",
    ]


async def test_workflows_it_cannot_tell_of_do_not_hold_up_the_others(
    serve: Serve, temporal_address: str, temporal: Client, log: Log, key_prefix: str, start: StartWorkflow
) -> None:
    """Someone started a workflow by hand, with a tenant that no topic can have."""
    odd = await temporal.start_workflow(
        "DocumentAnalysis", "complete", id=f"odd-{key_prefix}", task_queue=key_prefix, memo={"tenant": "a:b"}
    )
    await odd.result()
    async with serve(temporal_address=temporal_address):
        handle = await start("complete")
        await wait_until(lambda: _told(log, handle))
    assert await _told(log, odd) == []
