"""What is in no view yet is bounded: a source whose projectors are too far behind takes no more."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from core.log.checkpoint import NOTHING, Checkpoint
from core.log.keys import Keys, Source
from core.views.checkpoints import Checkpoints
from pipai_contracts.record import StreamId
from services.ingest.backlog import _REST, Backlog  # pyright: ignore[reportPrivateUsage]
from tests.conftest import wait_until
from tests.ingest.conftest import Log, Serve

EVENT = {"step": "s", "progress": 1}
LIMIT = 3


@pytest.fixture(autouse=True)
def quick_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ingest.main.SAMPLE_INTERVAL", 0.05)


@pytest.fixture
async def client(serve: Serve) -> AsyncIterator[httpx2.AsyncClient]:
    async with serve(stream_backlog_limit=LIMIT) as client:
        yield client


async def _publish(client: httpx2.AsyncClient, path: str = "workflow/w") -> httpx2.Response:
    return await client.post(f"/stream/publish/{path}", json=EVENT)


async def _fill(client: httpx2.AsyncClient) -> None:
    for _ in range(LIMIT):
        assert (await _publish(client)).status_code == 202


async def _project(log: Log, offset: int) -> None:
    """Move the checkpoint as a projector does that has come so far."""
    checkpoint = Checkpoint(offset, StreamId(offset, 0))
    await Checkpoints(log.redis, log.keys).advance(log.keys.source("workflow:progress", 0), checkpoint, since=NOTHING)


def _is_backlog(answer: httpx2.Response) -> bool:
    return answer.status_code == 503 and answer.json()["type"] == "/problems/backlog"


async def test_a_full_source_is_refused_until_its_events_are_in_the_views(client: httpx2.AsyncClient, log: Log) -> None:
    await _fill(client)
    refused = await _publish(client)

    assert _is_backlog(refused)
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["content-type"] == "application/problem+json"
    assert len(await log.events("workflow:progress")) == LIMIT

    await _project(log, 2)

    async def taken() -> bool:
        return (await _publish(client)).status_code == 202

    await wait_until(taken)
    await wait_until(lambda: REGISTRY.get_sample_value("pipai_backlog_events") == 2)
    assert (await _publish(client)).status_code == 202
    assert _is_backlog(await _publish(client))


async def test_other_sources_are_taken_meanwhile(client: httpx2.AsyncClient) -> None:
    await _fill(client)

    assert (await _publish(client, "analysis/f")).status_code == 202


async def test_of_a_batch_what_goes_to_a_full_source_may_be_sent_again(client: httpx2.AsyncClient, log: Log) -> None:
    await _fill(client)
    workflow: dict[str, Any] = {"type": "workflow_progress", "workflow_id": "w", **EVENT}
    mixed = [workflow, {"type": "analysis_progress", "file_id": "f", **EVENT}, {**workflow, "step": ""}]

    answer = (await client.post("/stream/publish/batch", json=mixed)).json()
    all_refused = await client.post("/stream/publish/batch", json=[workflow, workflow])

    assert answer["counts"] == {"appended": 1, "duplicate": 0, "invalid": 1, "unavailable": 1}
    assert answer["outcomes"][0]["error"]["type"] == "/problems/backlog"
    assert _is_backlog(all_refused)
    assert all_refused.headers["retry-after"] == "1"
    assert len(await log.events("workflow:progress")) == LIMIT
    assert len(await log.events("analysis:progress")) == 1


async def test_documents_are_refused_at_the_door(client: httpx2.AsyncClient) -> None:
    await _fill(client)

    answer = await client.post("/upload", files={"file": ("a.txt", b"text")})

    assert _is_backlog(answer), answer.text


async def test_what_was_in_the_log_before_the_start_counts(serve: Serve, log: Log) -> None:
    """Without a checkpoint from the first event on."""
    async with serve() as unbounded:
        await _fill(unbounded)
    async with serve(stream_backlog_limit=LIMIT) as client:

        async def refused() -> bool:
            return _is_backlog(await _publish(client))

        await wait_until(refused)
        await _project(log, await log.redis.xlen(log.keys.source("workflow:progress", 0).key))

        async def taken() -> bool:
            return (await _publish(client)).status_code == 202

        await wait_until(taken)


async def test_repeats_do_not_count(client: httpx2.AsyncClient) -> None:
    for _ in range(2 * LIMIT):
        answer = await client.post("/stream/publish/workflow/w", json={**EVENT, "event_id": "same"})
        assert answer.status_code == 202


class _CountedRedis(Redis):
    """Counts the looks."""

    looks = 0

    def pipeline(self, *arguments: Any, **options: Any) -> Any:
        self.looks += 1
        return super().pipeline(*arguments, **options)


async def test_a_quiet_log_is_left_alone(redis_url: str, key_prefix: str) -> None:
    """Some Redis are billed by the command."""
    keys = Keys(key_prefix)
    source: Source = keys.source("workflow:progress", 0)
    at = urlsplit(redis_url)
    async with _CountedRedis(host=at.hostname or "", port=at.port or 0, protocol=2) as redis:
        backlog = Backlog(redis, keys, limit=10)

        async def looks(samples: int) -> bool:
            before = redis.looks
            for _ in range(samples):
                await backlog.sample()
            return redis.looks > before

        assert await looks(1), "the first look tells where the log stands"
        assert not await looks(3 * _REST)
        await redis.set(source.offset, 1)
        await Checkpoints(redis, keys).advance(source, Checkpoint(1, StreamId(1, 0)), since=NOTHING)
        backlog.add(source.key, 1)
        assert await looks(1)
        assert not await looks(3 * _REST)
        backlog.add(source.key, 2)
        await redis.set(source.offset, 2)
        assert await looks(1)
        assert not await looks(_REST - 1)
        assert await looks(1), "a backlog that stays is looked at now and then"


async def test_while_redis_is_away_the_last_answer_and_what_came_since_stand(key_prefix: str) -> None:
    keys = Keys(key_prefix)
    source = keys.source("workflow:progress", 0)
    async with Redis.from_url("redis://127.0.0.1:1", protocol=2) as redis:
        backlog = Backlog(redis, keys, limit=2)
        backlog.add(source.key, 1)
        await backlog.sample()
        assert not backlog.is_full(source)
        backlog.add(source.key, 2)
        await backlog.sample()

        assert backlog.is_full(source)
        assert not backlog.is_full(keys.source("notifications", 0))


async def test_an_emptied_redis_has_no_backlog(redis_url: str, key_prefix: str) -> None:
    keys = Keys(key_prefix)
    source = keys.source("workflow:progress", 0)
    async with Redis.from_url(redis_url, protocol=2) as redis:
        backlog = Backlog(redis, keys, limit=10)
        backlog.add(source.key, 10)
        assert backlog.is_full(source)
        await backlog.sample()

        assert not backlog.is_full(source)
