"""What an operator does works on a Redis of every shape: in a Cluster no call reaches over slots."""

import asyncio

import pytest

from core.log.keys import Keys
from core.log.scan import keys_beginning, viewed_topics
from core.views.folds import render
from core.views.store import ViewStore
from pipai_contracts.ids import Topic
from services.admin.main import main
from tests.admin.conftest import Admin
from tests.conftest import wait_until
from tests.core.telling import step
from tests.projector.conftest import Deployment, deployed
from tests.projector.fresh_fold import is_projected
from tests.projector.random_run import random_run
from tests.shapes.servers import Shape


async def shown(deployment: Deployment) -> dict[Topic, str]:
    """Every view as viewers see it."""
    keys: Keys = deployment.keys
    topics = [topic async for topic in viewed_topics(deployment.redis, keys)]
    loaded = await ViewStore(deployment.redis, keys, feed_length=5000, ttl=600).load(topics)
    return {topic: render(stored.state).model_dump_json() for topic, stored in loaded.items()}


@pytest.fixture
def admin(shape: Shape, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Admin:
    """The program on this test's deployment; in a thread, because it has an event loop of its own."""
    monkeypatch.setattr("services.admin.quiet.LOOK_SECONDS", 0.01)
    for name, value in {
        "REDIS_URL": shape.address,
        "KEY_PREFIX": prefix,
        "STREAM_MAX_ENTRIES": "5000",
        "VIEW_TTL": "600",
        "ARCHIVE_URL": "off",
    }.items():
        monkeypatch.setenv(name, value)

    async def _admin(*arguments: str, partitions: int) -> int:
        monkeypatch.setenv("STREAM_PARTITIONS", str(partitions))
        return await asyncio.to_thread(main, arguments)

    return _admin


async def test_views_are_verified_mended_and_repartitioned(
    shape: Shape, prefix: str, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    async with deployed(shape.address, prefix) as deployment:
        async with deployment.projecting():
            await deployment.publish(step(10, of="w").by("ada"), *random_run(1, 60))
            await wait_until(lambda: is_projected(deployment.redis, deployment.keys))
        before = await shown(deployment)
        await deployment.redis.delete(deployment.keys.view(Topic.parse("default:user:ada")))
        assert await admin("verify", partitions=1) == 1
        assert await admin("rebuild", partitions=1) == 0
        assert await shown(deployment) == before
    assert await admin("repartition", "--to", "4", "--yes", partitions=1) == 0
    async with deployed(shape.address, prefix, 4) as deployment:
        assert await shown(deployment) == before
    capsys.readouterr()
    assert await admin("verify", partitions=4) == 0
    assert f"verified {len(before)}, different 0, unverifiable 0" in capsys.readouterr().out
    assert await admin("repartition", "--to", "1", "--yes", partitions=4) == 0
    async with deployed(shape.address, prefix) as deployment:
        assert await shown(deployment) == before
        left = [name async for name in keys_beginning(deployment.redis, "") if prefix in name]
        assert not [name for name in left if "{3}" in name or name.startswith("staged:")]


async def test_a_slice_is_replayed_into_a_sandbox_compared_and_dropped(
    shape: Shape, prefix: str, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox = f"{prefix}-sandbox"
    async with deployed(shape.address, prefix, 4) as deployment:
        async with deployment.projecting():
            await deployment.publish(*random_run(2, 60))
            await wait_until(lambda: is_projected(deployment.redis, deployment.keys))
        before = await shown(deployment)
        assert await admin("replay", "--into", sandbox, "--once", partitions=4) == 0
        capsys.readouterr()
        assert await admin("verify", "--against", sandbox, partitions=4) == 0
        assert f"verified {len(before)}, different 0, unverifiable 0" in capsys.readouterr().out
        assert await admin("replay", "--drop", sandbox, partitions=4) == 0
        assert [name async for name in keys_beginning(deployment.redis, "") if sandbox in name] == []
        assert await shown(deployment) == before
