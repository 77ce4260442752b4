"""The second adapter of the Redis that tests use: a container, where a Docker engine has the image."""

import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from testcontainers.community.redis import PingWaitStrategy, RedisContainer
from testcontainers.core.config import ConnectionMode, testcontainers_config

from core.runtime.ports import LOOPBACK

IMAGE = "redis:7"
REACHABLE_WITHIN = 10
"""Seconds. From inside a container that uses the engine outside, a loopback port of the engine is out of reach."""


@contextmanager
def docker_redis() -> Generator[str | None]:
    """The URL of a Redis container that lives as long as the block; None where Docker cannot give one.

    Nothing is ever pulled: a test run must not depend on what a registry answers today.
    """
    container = _started() if _engine_has_the_image() else None
    if container is None:
        yield None
        return
    try:
        yield f"redis://{LOOPBACK}:{container.get_exposed_port(6379)}"
    finally:
        container.stop()


def _started() -> RedisContainer | None:
    testcontainers_config.ryuk_disabled = True  # its own image would have to be pulled
    testcontainers_config.connection_mode_override = ConnectionMode.docker_host
    testcontainers_config.tc_host_override = LOOPBACK
    # In a container every client comes from elsewhere, which Redis refuses in protected mode.
    options = "redis-server --protected-mode no --appendonly yes --save '' --maxmemory-policy noeviction"
    container = RedisContainer(IMAGE).with_command(options)
    container.ports["6379"] = cast("Any", (LOOPBACK,))  # a free port of this address; else it is one of all addresses
    container.waiting_for(PingWaitStrategy().with_startup_timeout(REACHABLE_WITHIN))
    try:
        return container.start()
    except RedisConnectionError:
        container.stop()
        return None


def _engine_has_the_image() -> bool:
    # Asked through the program: docker-py leaks a socket when the engine is away, and warnings are errors.
    if shutil.which("docker") is None:
        return False
    question = ["docker", "image", "inspect", "--format", "{{.Id}}", IMAGE]
    try:
        return subprocess.run(question, capture_output=True, check=False, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:
        return False
