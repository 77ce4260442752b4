"""A deployment to administer, and the program as an operator runs it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from services.admin.main import main
from tests.projector.conftest import any_deployment, deployment

__all__ = ["any_deployment", "deployment"]

Admin = Callable[..., Awaitable[int]]
"""Runs ``pipai-admin`` with these arguments and returns its exit code."""


@pytest.fixture(autouse=True)
def noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing appends while a test repartitions, so nobody has to notice it."""
    monkeypatch.setattr("services.admin.repartition._NOTICED_SECONDS", 0)


@pytest.fixture
def admin(redis_url: str, key_prefix: str, monkeypatch: pytest.MonkeyPatch) -> Admin:
    """The program on this test's deployment; in a thread, because it has an event loop of its own."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("KEY_PREFIX", key_prefix)
    monkeypatch.setenv("STREAM_MAX_ENTRIES", "5000")
    monkeypatch.setenv("VIEW_TTL", "600")
    monkeypatch.setenv("ARCHIVE_URL", "off")

    async def _admin(*arguments: str, partitions: int = 1) -> int:
        monkeypatch.setenv("STREAM_PARTITIONS", str(partitions))
        return await asyncio.to_thread(main, arguments)

    return _admin
