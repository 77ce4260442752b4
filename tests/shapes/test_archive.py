"""Every event is archived once and found again on a Redis of every shape."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from core.log.archive.wanted import Wanted
from services.admin.main import main
from tests.archiver.conftest import Archived, archived_deployment
from tests.conftest import wait_until
from tests.core.telling import ai, analysis, notice, step
from tests.shapes.servers import Shape


@pytest.mark.parametrize("partitions", [1, 4])
async def test_what_is_trimmed_is_found_once(
    shape: Shape, prefix: str, partitions: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.projector.retention._LOOK_EVERY", 0.2)
    async with archived_deployment(shape.address, prefix, tmp_path, partitions) as archived:
        async with archived.deployment.projecting(stream_max_entries=5), archived.archiving() as archiver:
            await wait_until(lambda: archiver.ready)
            for number in range(25):
                name = f"t{number}"
                await archived.deployment.publish(step(1, of=name), ai("x", of=name), analysis(2, of=name), notice("n"))
            await archived.settled()
            await wait_until(lambda: _is_short(archived), 20)
        found = await archived.history.find(Wanted("default"), limit=1000)
        assert Counter(row.event_id for row in found) == {f"e{number}": 1 for number in range(100)}
    monkeypatch.setenv("REDIS_URL", shape.address)
    monkeypatch.setenv("KEY_PREFIX", prefix)
    monkeypatch.setenv("STREAM_PARTITIONS", str(partitions))
    assert await asyncio.to_thread(main, ("archive", "off")) == 0


async def _is_short(archived: Archived) -> bool:
    deployment = archived.deployment
    return all([await deployment.redis.xlen(source.key) <= 5 for source in deployment.keys.sources()])
