"""A projector with nothing to do asks Redis as much for each partition, however many there are."""

from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from services.projector import survey as surveying
from services.projector.survey import Survey
from services.standalone.embedded import redis_server
from tests.conftest import wait_until
from tests.core.telling import step
from tests.projector.conftest import Deployment, deployed

_LOOKS = 3


async def _calls(redis: Redis) -> Counter[str]:
    """How often each command was called since Redis started."""
    stats = cast("dict[str, dict[str, Any]]", await redis.info("commandstats"))
    return Counter({name.removeprefix("cmdstat_"): int(of["calls"]) for name, of in stats.items()})


async def _asked_per_look(address: str, partitions: int) -> float:
    """Commands for each look at a source, while nothing happens. A look reads the source's stream once."""
    async with (
        deployed(address, f"idle{partitions}", partitions) as deployment,
        deployment.projecting(stream_block_time=60_000, lease_seconds=120) as projector,
    ):
        await wait_until(lambda: len(projector.held) == partitions and projector.ready, 30)
        await _looked(deployment)
        growth = await _looked(deployment)
        return growth.total() / growth["xrange"]


async def _looked(deployment: Deployment) -> Counter[str]:
    """Wait for some looks at every source; returns what Redis was asked meanwhile."""
    before, looks = await _calls(deployment.redis), _LOOKS * len(deployment.keys.sources())

    async def grown() -> Counter[str] | None:
        growth = await _calls(deployment.redis) - before
        return growth if growth["xrange"] >= looks else None

    growth = await wait_until(grown, 30)
    assert growth is not None
    del growth["info"]
    return growth


async def test_what_a_partition_costs_does_not_grow_with_the_number_of_partitions(tmp_path: Path) -> None:
    """Every partition has a copy of every checkpoint: asked for source by source they would cost the square."""
    with redis_server(tmp_path / "redis") as server:
        few, many = await _asked_per_look(server.address, 4), await _asked_per_look(server.address, 16)
    assert many < 1.5 * few, (few, many)


async def test_the_sources_of_a_projector_ask_together(
    any_deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey, sources = Survey(any_deployment.checkpoints), any_deployment.keys.sources()
    monkeypatch.setattr(surveying, "_FRESH", 3600)
    for source in sources:
        await survey.of(source)

    before = await _calls(any_deployment.redis)
    with monkeypatch.context() as later:
        later.setattr(surveying, "_FRESH", 0)
        await survey.of(sources[0])
    for source in sources:
        await survey.of(source)

    assert (await _calls(any_deployment.redis) - before)["hmget"] == any_deployment.keys.partitions


async def test_what_was_projected_since_the_sources_asked_waits_no_more(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveying, "_FRESH", 3600)
    follower = await deployment.follower()
    [published] = await deployment.publish(step(1))
    assert str(await follower.oldest_waiting()) == published.stream_id

    await follower.take(await deployment.deliver())

    assert await follower.oldest_waiting() is None
