"""What the worker survives: its own death, Redis away, a reader that crashes, a bad model."""

import os
import signal
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
import pytest
from prometheus_client import REGISTRY
from temporalio.client import Client, WorkflowFailureError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import ActivityEnvironment

from core.runtime.redis import command_client
from core.runtime.storage import open_storage
from pipai_contracts.analysis import DocumentAnalysisInput
from services.standalone.embedded import redis_server
from services.worker.compose import compose_activities, compose_worker
from services.worker.messages import Conclusion, Text
from services.worker.settings import WorkerSettings
from tests.conftest import wait_until
from tests.worker.conftest import Handle, Office
from tests.worker.model_server import CUT, Refusal, model_server
from tests.worker.samples import make_pdf, make_slow_pdf
from tests.worker.test_document_analysis import SOURCES, terminal

WAIT = 60


@asynccontextmanager
async def worker_process(settings: WorkerSettings, **more: str) -> AsyncGenerator[Process]:
    """`python -m services.worker` as it runs in earnest; ended at the end of the block."""
    environment = {
        "PATH": os.environ["PATH"],
        "REDIS_URL": settings.redis_address(),
        "TEMPORAL_ADDRESS": str(settings.temporal_address),
        "KEY_PREFIX": settings.key_prefix,
        "STORAGE_URL": settings.storage_url,
        "TEMPORAL_TASK_QUEUE": settings.temporal_task_queue,
        "METRICS_PORT": "0",
        **more,
    }
    process = await create_subprocess_exec(sys.executable, "-m", "services.worker", env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def pages_told(office: Office, handle: Handle) -> int:
    return sum(1 for one in await office.data(handle) if one.get("message", "").startswith("Page "))


async def check_ended_once(office: Office, handle: Handle) -> dict[str, Any]:
    """Every stream has one terminal event, which is the last; returns the workflow's."""
    ends: list[dict[str, Any]] = []
    for source in SOURCES:
        told = await office.data(handle, source)
        assert [terminal(one) for one in told] == [False] * (len(told) - 1) + [True]
        ends.append(told[-1])
    return ends[0]


async def test_a_killed_workers_document_is_finished_by_the_next(office: Office) -> None:
    handle = await office.send(make_slow_pdf(40), "long.pdf")
    async with worker_process(office.settings) as process:
        await wait_until(lambda: pages_told(office, handle), WAIT)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    async with worker_process(office.settings):
        await handle.result()
    assert (await check_ended_once(office, handle))["progress"] == 100
    ids = [record.envelope.event_id for record in await office.events(handle)]
    assert len(set(ids)) == len(ids)


async def test_a_worker_told_to_stop_does_so_at_once_and_hands_over(office: Office) -> None:
    handle = await office.send(make_slow_pdf(100), "long.pdf")
    async with worker_process(office.settings, WORKER_GRACE="0.5") as process:
        await wait_until(lambda: pages_told(office, handle), WAIT)
        process.send_signal(signal.SIGTERM)
        began = monotonic()
        assert await process.wait() == 0
        assert monotonic() - began < 5
    async with worker_process(office.settings):
        await handle.result()
    assert (await check_ended_once(office, handle))["progress"] == 100


@pytest.mark.usefixtures("worker")
async def test_a_reader_that_dies_is_started_again(office: Office) -> None:
    handle = await office.send(make_slow_pdf(80), "long.pdf")

    async def half_read() -> bool:
        return await pages_told(office, handle) >= 40

    await wait_until(half_read, WAIT)
    readers = [one for one in psutil.Process().children() if "services.worker.confined.child" in one.cmdline()]
    for reader in readers:
        reader.kill()
    assert readers
    await handle.result()
    await check_ended_once(office, handle)
    progress = [one["progress"] for one in await office.data(handle)]
    assert progress == sorted(progress), "a second attempt went back"


@pytest.mark.parametrize("cancels_too_late", [False, True])
async def test_work_goes_on_without_redis_and_the_end_is_told_when_it_is_back(
    temporal_address: str, tmp_path: Path, *, cancels_too_late: bool
) -> None:
    """Once the end is being told, a cancellation does not change it."""
    redis = redis_server(tmp_path / "redis")
    redis.start()
    settings = WorkerSettings.model_validate(
        {
            "redis_url": redis.address,
            "temporal_address": temporal_address,
            "storage_url": (tmp_path / "storage").as_uri(),
            "temporal_task_queue": tmp_path.name,
        }
    )
    client = await Client.connect(temporal_address, data_converter=pydantic_data_converter)
    async with AsyncExitStack() as stack:
        stack.callback(redis.stop)
        reader = command_client(redis.address)
        stack.push_async_callback(reader.aclose)
        office = Office(settings, client, reader)
        await stack.enter_async_context(compose_worker(client, settings, compose_activities(settings, stack)))
        handle = await office.send(make_slow_pdf(60), "long.pdf")
        await wait_until(lambda: pages_told(office, handle), WAIT)
        redis.stop()

        async def concluding() -> bool:
            pending = (await handle.describe()).raw_description.pending_activities
            return any(one.activity_type.name == "conclude" and one.attempt > 1 for one in pending)

        await wait_until(concluding, WAIT, "the work did not go on without Redis")
        if cancels_too_late:
            await handle.cancel()
        redis.start()
        await handle.result()
        assert (await check_ended_once(office, handle))["progress"] == 100
        assert await pages_told(office, handle) < 60


async def test_another_attempt_of_the_ai_step_has_a_text_of_its_own(office: Office) -> None:
    """Viewers join the deltas of a step: what a first attempt wrote must not stay in front of the second's text."""

    async def text() -> AsyncIterator[bytes]:
        yield b"The survey counts the salmon of the valley."

    await open_storage(office.settings.storage_url).put("documents/a.text", text(), 1000)
    document = DocumentAnalysisInput(workflow_id="w", file_id="file of w", storage_key="documents/a", filename="a.txt")
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=2)
    async with AsyncExitStack() as stack:
        activities = compose_activities(office.settings, stack)
        await environment.run(activities.analyse, Text(document=document, text_key="documents/a.text"))
    told = await office.data(office.client.get_workflow_handle("w"), "ai:progress")
    assert told
    assert all(one["step"].endswith(" (attempt 2)") for one in told)


async def test_the_end_is_stored_once_however_often_it_is_told(office: Office) -> None:
    document = DocumentAnalysisInput(workflow_id="w", file_id="file of w", storage_key="documents/a", filename="a.pdf")
    conclusion = Conclusion(document=document, step="extract", progress=20, error="The file is damaged.")
    before = REGISTRY.get_sample_value("pipai_documents_total", {"outcome": "failed"}) or 0
    async with AsyncExitStack() as stack:
        activities = compose_activities(office.settings, stack)
        for _ in range(3):
            await ActivityEnvironment().run(activities.conclude, conclusion)
    handle = office.client.get_workflow_handle("w")
    for source in SOURCES:
        assert [one["error"] for one in await office.data(handle, source)] == ["The file is damaged."]
    assert REGISTRY.get_sample_value("pipai_documents_total", {"outcome": "failed"}) == before + 1


async def test_a_models_words_reach_viewers_and_the_result(office: Office) -> None:
    async with model_server() as server, AsyncExitStack() as stack:
        server.answers = [["Salm", CUT], ["Salmon ", "are back."]]
        handle = await send_to_model(office, server.base_url, stack)
        result = await handle.result()
        assert (result.summary, result.model, result.language) == ("Salmon are back.", "tiny", "en")
        told = await office.data(handle, "ai:progress")
        last = told[-1]["step"]
        assert "".join(one.get("delta", "") for one in told if one["step"] == last) == "Salmon are back."
        assert any("trying again" in one.get("message", "") for one in await office.data(handle))


async def test_a_model_that_refuses_ends_in_a_clear_error(office: Office) -> None:
    async with model_server() as server, AsyncExitStack() as stack:
        server.answers = [Refusal(401)]
        handle = await send_to_model(office, server.base_url, stack)
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        end = await check_ended_once(office, handle)
        assert (end["step"], end["error"]) == ("analyse", "The AI server refused the request with status 401.")
        assert len(server.prompts) == 1


async def send_to_model(office: Office, base_url: str, stack: AsyncExitStack) -> Handle:
    """A document for a worker that asks the model server."""
    settings = office.settings.model_copy(update={"openai_base_url": base_url, "openai_model": "tiny"})
    await stack.enter_async_context(compose_worker(office.client, settings, compose_activities(settings, stack)))
    return await office.send(make_pdf(1), "survey.pdf")
