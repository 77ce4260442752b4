"""A view that is gone from the store, or older than it was, though its topic is watched."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest
from prometheus_client import REGISTRY

from pipai_contracts.events import WorkflowProgress
from pipai_contracts.ids import Topic
from services.api import memory
from tests.api.conftest import Api, Producer
from tests.api.stream import Stream
from tests.conftest import wait_until

TOPIC = Topic("default", "workflow", "w")


@pytest.fixture
async def watched(api: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stream]:
    """Somebody who watches the topic at its third event, of which this process has heard none."""
    monkeypatch.setattr(memory, "_FRESH_SECONDS", -1)
    await producer.progress("w", 1, 2, 3)
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await stream.next()
        yield stream


@pytest.mark.parametrize("query", ["", "?cursor=0", "?from=beginning", "?from=2000-01-01T00:00:00Z"])
async def test_who_joins_a_topic_that_has_expired_is_told_what_comes_and_nothing_over_and_over(
    api: Api, producer: Producer, watched: Stream, query: str
) -> None:
    await producer.redis.delete(producer.keys.view(TOPIC), producer.keys.feed(TOPIC))
    async with api.watching(f"/stream/workflow/w{query}") as stream:
        connected = await stream.next()
        assert (connected.event, connected.id, connected.data.get("view")) == ("connected", "0", None)
        reset = await watched.next()
        assert (reset.event, reset.data["reason"], reset.id) == ("reset", "epoch", "0")
        await producer.publish(WorkflowProgress(workflow_id="w", step="work", progress=4))
        for viewer in (stream, watched):
            event = await viewer.next()
            assert (event.event, event.pos, event.data["progress"]) == ("workflow_progress", 1, 4)


async def test_who_joins_a_topic_that_went_back_is_told_what_comes_and_nothing_over_and_over(
    api: Api, producer: Producer
) -> None:
    """A new master that lacks the newest writes; the change feed may not show it for as long as nothing happens."""
    names = (producer.keys.view(TOPIC), producer.keys.feed(TOPIC))
    await producer.progress("w", 1, 2, 3)
    dumps = [cast("bytes", await producer.redis.dump(name)) for name in names]
    await producer.progress("w", 4, 5)
    epoch = (await producer.store.snapshot(TOPIC, 0)).cursor.epoch
    async with api.watching("/stream/workflow/w") as watched:
        assert (await watched.next()).pos == 5
        await watched.next()
        for name, dump in zip(names, dumps, strict=True):
            await producer.redis.restore(name, 60_000, dump, replace=True)
        async with api.watching(f"/stream/workflow/w?cursor={epoch}.3") as stream:
            await stream.next()
            reset = await watched.next()
            assert (reset.event, reset.data["reason"], reset.pos) == ("reset", "ahead", 3)
            await producer.publish(WorkflowProgress(workflow_id="w", step="work", progress=6))
            for viewer in (stream, watched):
                event = await viewer.next()
                assert (event.event, event.pos, event.data["progress"]) == ("workflow_progress", 4, 6)


async def test_who_waits_for_an_event_of_a_topic_that_has_expired_gets_the_first_that_comes(
    api: Api, producer: Producer, watched: Stream
) -> None:
    await producer.redis.delete(producer.keys.view(TOPIC), producer.keys.feed(TOPIC))
    waiting = asyncio.create_task(api.client.get("/events/workflow/w?after=0&wait=15"))
    await wait_until(lambda: REGISTRY.get_sample_value("pipai_waiting_requests"))
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        assert (await watched.next()).event == "reset"
        await producer.publish(WorkflowProgress(workflow_id="w", step="work", progress=4))
        async with asyncio.timeout(10):
            answer = await waiting
    assert [event["pos"] for event in answer.json()["events"]] == [1]
