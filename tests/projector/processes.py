"""Projectors as processes of their own, to be killed, paused and told to stop."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

from tests.projector.conftest import Deployment


@asynccontextmanager
async def projector_process(
    deployment: Deployment, *, lease_seconds: float = 1
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """``python -m services.projector``, which ends with 0 unless the block ended it."""
    settings = {
        "REDIS_URL": deployment.settings.redis_address(),
        "KEY_PREFIX": deployment.keys.prefix,
        "STREAM_PARTITIONS": str(deployment.keys.partitions),
        "STREAM_MAX_ENTRIES": str(deployment.settings.stream_max_entries),
        "STREAM_BLOCK_TIME": "100",
        "PROJECTOR_BATCH": "5",
        "METRICS_PORT": "0",
        "LEASE_SECONDS": str(lease_seconds),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.projector", env={**os.environ, **settings}, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        running = process.returncode is None
        if running:
            process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 10)
    assert code == 0 or not running


async def holders(deployment: Deployment) -> list[int | None]:
    """The process id of who holds each partition."""
    leases = [deployment.keys.lease(partition) for partition in range(deployment.keys.partitions)]
    values = [cast("bytes | None", await deployment.redis.get(lease)) for lease in leases]
    return [int(value.decode().rsplit("-", 2)[1]) if value else None for value in values]
