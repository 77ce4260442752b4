"""How long connections live, and what one that does not read costs."""

import asyncio
import gc
import socket
from collections import Counter

import pytest
from pydantic import SecretStr

from core.runtime import http_protocol
from pipai_contracts.events import Metadata, WorkflowProgress
from services.api import ring
from services.api.channel import Channel
from services.api.messages import Run
from services.api.outlets import HIGH_WATER, QueueOutlet, TransportOutlet
from services.api.settings import ApiSettings
from services.api.viewer import Viewer
from services.api.viewers import Viewers
from tests.api.conftest import Api, Producer, Serve, serving
from tests.conftest import wait_until

LARGE: Metadata = {"text": "x" * 50_000}


async def test_a_connection_that_has_lived_long_enough_is_told_when_to_come_back(
    serve: Serve, producer: Producer
) -> None:
    async with serve(stream_lifetime=1, heartbeat_interval=1, reconnect_interval=2000) as api:
        async with api.watching("/stream/workflow/w") as stream:
            await stream.next()
            await producer.progress("w", 1)
            first, farewell = await stream.next(), await stream.next()
        assert (farewell.event, farewell.data["reason"], farewell.data["reconnect"]) == (
            "disconnected",
            "lifetime",
            True,
        )
        assert 200 <= (farewell.retry or 0) <= 2000
        assert stream.ended or (await stream.rest()) == []
        await producer.progress("w", 2)
        async with api.watching("/stream/workflow/w", {"Last-Event-ID": str(first.id)}) as stream:
            await stream.next()
            assert (await stream.next()).pos == 2


async def test_connections_that_came_together_do_not_end_together() -> None:
    """Each ends up to a fifth of its life earlier, and none later."""
    everyone = Viewers(heartbeat=1, lifetime=100, retry=1000)
    viewers = [Viewer(QueueOutlet(gzip=False), on_resumed=everyone.add, on_gone=everyone.remove) for _ in range(1_000)]
    now = asyncio.get_running_loop().time()
    for viewer in viewers:
        everyone.add(viewer)
    lives = [viewer.expires - now for viewer in viewers]
    assert 80 <= min(lives) < 82
    assert 98 < max(lives) <= 101
    assert max(Counter(int(life) for life in lives).values()) < 150, "a second has 50 of them on average"


def _waiting_for(viewer: Viewer) -> int:
    outlet = viewer.outlet
    if isinstance(outlet, TransportOutlet):
        return outlet._transport.get_write_buffer_size()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    assert isinstance(outlet, QueueOutlet)
    return outlet._queued  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _viewers() -> list[Viewer]:
    # By type: isinstance asks the object itself, and what other libraries left in memory may refuse to answer.
    return [one for one in gc.get_objects() if issubclass(type(one), Viewer) and not one.closed]


async def test_what_waits_for_a_viewer_that_does_not_read_is_bounded_and_the_others_go_on(
    api: Api, producer: Producer
) -> None:
    async with (
        api.watching("/stream/workflow/w", read=False),
        api.watching("/stream/workflow/w") as reader,
    ):
        await reader.next()
        for at in range(200):
            await producer.publish(WorkflowProgress(workflow_id="w", step="s", progress=at / 4, metadata=LARGE))
            assert (await reader.next()).pos == at + 1
        sleepers = [viewer for viewer in _viewers() if viewer.outlet.paused]
        assert len(sleepers) == 1
        if isinstance(sleepers[0].outlet, TransportOutlet):
            assert 0 < _waiting_for(sleepers[0]) < HIGH_WATER + 2 * 64 * 1024
        # Its channel tells it nothing while it does not read.
        [channel] = sleepers[0].places
        assert isinstance(channel, Channel)
        assert sleepers[0].places[channel] is not None


async def test_what_a_viewer_missed_waits_in_the_feed_until_it_reads(
    api: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten megabytes, from events that are more than a page of the feed: it is told them as fast as it reads."""
    monkeypatch.setattr(ring, "MAX_EVENTS", 0)  # nothing of it comes from memory
    await producer.progress("w", *(at / 4 for at in range(200)), metadata=LARGE)
    most: list[int] = []
    tell = Viewer.tell

    def look(viewer: Viewer, told: Channel, run: Run) -> None:
        tell(viewer, told, run)
        most.append(_waiting_for(viewer))

    monkeypatch.setattr(Viewer, "tell", look)
    async with api.watching("/stream/workflow/w?cursor=0", read=False) as stream:
        await wait_until(lambda: any(viewer.outlet.paused for viewer in _viewers()))
        stream.read()
        frames = await stream.until(lambda frame: frame.pos == 200)
    assert [frame.pos for frame in frames if frame.event == "workflow_progress"] == list(range(1, 201))
    assert max(most) < HIGH_WATER + 2 * 64 * 1024


async def test_the_system_is_asked_to_notice_viewers_that_are_gone_without_a_word(
    redis_url: str, key_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    notice = http_protocol._notice_silence  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def look(transport: asyncio.Transport) -> None:
        notice(transport)
        connection = transport.get_extra_info("socket")
        alive = connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        asked.append((alive, connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)))

    monkeypatch.setattr(http_protocol, "_notice_silence", look)
    settings = ApiSettings(redis_url=SecretStr(redis_url), key_prefix=key_prefix)
    async with serving(settings) as api, api.watching("/stream/workflow/w") as stream:
        await stream.next()
    assert asked == [(1, http_protocol.SILENCE_SECONDS * 1000)]
