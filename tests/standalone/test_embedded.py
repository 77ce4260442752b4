"""Redis and Temporal of this machine."""

import sys
from pathlib import Path

import pytest
from redis import Redis
from temporalio.client import Client

from services.standalone.embedded import packaged_redis, redis_server


def test_redis_keeps_its_data_over_a_crash(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        with Redis.from_url(server.address) as redis:
            redis.set("k", "v")
        server.kill()
        server.start()
        with Redis.from_url(server.address) as redis:
            assert redis.get("k") == b"v"


def test_redis_never_evicts(redis_url: str) -> None:
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert redis.config_get("appendonly") == {"appendonly": "yes"}


def test_the_packaged_redis_is_used_when_the_one_on_path_is_too_old(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The package has no wheel for Python 3.14."""
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=0'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (packaged_redis() is None) == (sys.version_info >= (3, 14))
    if packaged_redis():
        with redis_server(tmp_path / "data") as server, Redis.from_url(server.address) as redis:
            assert redis.ping()


async def test_temporal_answers_a_client(temporal_address: str) -> None:
    client = await Client.connect(temporal_address)
    assert await client.service_client.check_health()
