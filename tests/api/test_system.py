"""The system's own stream."""

import asyncio

import pytest

from services.api import system
from services.api.health import HealthCheck
from tests.api.conftest import Api, Producer
from tests.conftest import wait_until


async def test_it_says_at_once_and_then_again_how_the_system_is(api: Api, producer: Producer) -> None:
    async with api.watching("/stream/system") as stream, api.watching("/stream/workflow/w") as other:
        connected = await stream.next()
        assert (connected.event, connected.id, connected.data["heartbeat"]) == ("connected", None, 15)
        first = await stream.next()
        assert (first.event, first.id) == ("system", None)
        assert first.data["health"]["services"]["redis"] == "healthy"
        await other.next()
        await producer.progress("w", 1, 2, 3)
        await other.until(lambda frame: frame.pos == 3)
        second = (await stream.until(lambda frame: frame.data["deliveries_per_second"] > 0))[-1]
    assert second.data["streams"] == 2
    assert second.data["events_per_second"] > 0
    assert second.data["delivery_seconds"] >= 0


async def test_all_who_watch_are_told_the_same_and_without_them_nobody_asks(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "_EVERY", 0.05)
    asked = 0
    check = HealthCheck.check

    async def counting(self: HealthCheck) -> object:
        nonlocal asked
        asked += 1
        return await check(self)

    monkeypatch.setattr(HealthCheck, "check", counting)
    async with api.watching("/stream/system") as one, api.watching("/stream/system") as two:
        await wait_until(lambda: len(one.events()) > 5 and len(two.events()) > 5)
        told = {frame.raw for frame in one.frames} & {frame.raw for frame in two.frames}
        assert len(told) >= 3
    await wait_until(lambda: not any("SystemFeed" in repr(task.get_coro()) for task in asyncio.all_tasks()))
    before = asked
    assert (await api.client.get("/livez")).status_code == 200
    assert asked == before


async def test_who_comes_does_not_keep_the_others_waiting(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told at once, however many come one after another while the system is looked at."""
    comes, check = asyncio.Event(), HealthCheck.check

    async def slow(self: HealthCheck) -> object:
        await comes.wait()
        comes.clear()
        return await check(self)

    monkeypatch.setattr(HealthCheck, "check", slow)
    async with api.watching("/stream/system") as one:
        await one.next()
        for _ in range(3):
            comes.set()
            async with api.watching("/stream/system") as other:
                await other.next()
                assert (await one.next()).event == "system"
