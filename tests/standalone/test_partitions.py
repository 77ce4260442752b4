"""A number of partitions that is not the deployment's is said once, with the way out; and that way works."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from core.runtime.ports import free_port
from tests.standalone.test_up import run
from tests.system.running import System

REASON = "STREAM_PARTITIONS is 2 here, but the deployment has 1: set it to 1, or stop every service and run:"


async def test_up_says_it_once_and_ends_and_the_stopped_system_can_be_repartitioned(tmp_path: Path) -> None:
    async with System(tmp_path, TEMPORAL_ADDRESS="") as system:
        verified = await asyncio.to_thread(run, tmp_path, "pipai-admin", "verify")
        assert verified.returncode == 0, verified.stderr
        assert await system.stop() == 0

    refused = await asyncio.to_thread(run, tmp_path, "up", STREAM_PARTITIONS="2", TEMPORAL_ADDRESS="")
    assert refused.returncode == 2
    said = refused.stdout + refused.stderr
    assert refused.stderr == f"{REASON} ./run pipai-admin repartition --to 2 --yes\n"
    assert "Traceback" not in said
    assert "started again" not in said

    moved = await asyncio.to_thread(run, tmp_path, "pipai-admin", "repartition", "--to", "2", "--yes")
    assert moved.returncode == 0, moved.stderr
    assert "set STREAM_PARTITIONS=2 everywhere, and start" in moved.stdout

    verified = await asyncio.to_thread(run, tmp_path, "pipai-admin", "verify")
    assert verified.returncode == 0, "who looks does not have to name the number"
    refused = await asyncio.to_thread(run, tmp_path, "pipai-admin", "verify", STREAM_PARTITIONS="1")
    assert refused.returncode == 2
    assert refused.stderr.endswith("run: ./run pipai-admin repartition --to 1 --yes\n")


@pytest.mark.parametrize("service", ["ingest", "api", "projector", "worker"])
async def test_a_service_says_it_in_one_line_and_ends_as_a_wrong_setting_does(
    redis_url: str, key_prefix: str, service: str, tmp_path: Path
) -> None:
    redis = Redis.from_url(redis_url)
    await redis.set(f"{key_prefix}:layout", "partitions=1")
    await redis.aclose()
    settings = {
        "PATH": os.environ["PATH"],
        "REDIS_URL": redis_url,
        "KEY_PREFIX": key_prefix,
        "STREAM_PARTITIONS": "2",
        "TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}",
        "STORAGE_URL": (tmp_path / "storage").as_uri(),
        "PORT": "0",
        "METRICS_PORT": "0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"services.{service}",
        env=settings,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said = b"\n".join(await process.communicate()).decode()

    assert process.returncode == 2
    assert len([line for line in said.splitlines() if REASON in line]) == 1
    assert "Traceback" not in said
