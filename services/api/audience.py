"""Everybody who watches in this process: how they are let in, served, and told to go."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio

from core.runtime.clock import now
from core.runtime.files import max_open_files
from core.runtime.logs import get_logger
from core.runtime.problems import ProblemError
from core.runtime.tasks import running
from pipai_contracts.cursor import Cursor
from pipai_contracts.frames import Connected, Shaping, encode_data, encode_frame
from pipai_contracts.ids import Topic
from services.api import metrics
from services.api.asked import Asked
from services.api.channel import Channel
from services.api.hub import Hub
from services.api.joining import RETRY_SECONDS, bring, come_back, cut_off_on_failure
from services.api.latest import latest_name
from services.api.messages import degraded_message
from services.api.outlets import Outlet
from services.api.settings import ApiSettings
from services.api.shaping import UNSHAPED, passes
from services.api.starts import Arrival, arrive
from services.api.temporal_status import TemporalQuery
from services.api.viewer import Viewer
from services.api.viewers import jittered
from services.api.waiting import Waiters

_OTHER_FILES: Final = 100
"""Files the process needs beside its viewers' connections."""

_APART: Final = 0.05
"""Seconds between two viewers that are sent away, at most: few of them are not worth a longer stop."""

_MOMENT: Final = 0.01
"""Seconds that are not worth a wait."""

_NO_ROOM: Final = "No room for another viewer"
_SOON: Final = {"Retry-After": "1"}

log = get_logger()


class DrainingError(ProblemError):
    """The process is about to stop, and lets nobody in any more."""


class Audience:
    """The viewers of one process."""

    def __init__(self, hub: Hub, settings: ApiSettings, temporal: TemporalQuery) -> None:
        self._hub = hub
        self._settings = settings
        self._temporal = temporal
        self._most = settings.stream_max_connections
        self.draining = False
        self.shutdown = anyio.Event()
        self.waiters = Waiters()
        """Those who wait without a stream."""

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Serve while the block lasts; everybody is told of its end."""
        files = max_open_files()  # asked for now: the process has raised what it may open since it was put together
        if files - _OTHER_FILES < self._most:
            self._most = max(files - _OTHER_FILES, 1)
            log.info("fewer streams are served than STREAM_MAX_CONNECTIONS", streams=self._most, open_files=files)
        async with running(self._await_shutdown()):
            yield
        self._dismiss()

    def check_room(self) -> None:
        """Refuse whom this process cannot serve as well.

        Raises:
            DrainingError: the process is about to stop (503).
            ProblemError: there are as many as it may serve (503).
        """
        if self.draining:
            metrics.REFUSED.labels("draining").inc()
            raise DrainingError(
                503, "draining", _NO_ROOM, "This process is about to stop; another one serves you", headers=_SOON
            )
        if len(self._hub.viewers) + len(self.waiters) >= self._most:
            metrics.REFUSED.labels("full").inc()
            limit = f"This process serves {self._most} viewers, which is its limit; come back later"
            raise ProblemError(503, "full", _NO_ROOM, limit, headers=_SOON)

    async def drain(self) -> None:
        """Send everybody away, one after another within ``DRAIN_SECONDS``, and let nobody in any more."""
        self.draining = True
        self.waiters.end()
        viewers = list(self._hub.viewers)
        random.shuffle(viewers)
        if viewers:
            log.info("stream viewers are sent away", viewers=len(viewers), seconds=self._settings.drain_seconds)
        loop = asyncio.get_running_loop()
        began = loop.time()
        apart = min(self._settings.drain_seconds / max(len(viewers), 1), _APART)
        for number, viewer in enumerate(viewers):
            early = began + apart * number - loop.time()
            if early > _MOMENT:
                await asyncio.sleep(early)
            viewer.end("draining", reconnect=True, retry=jittered(self._settings.reconnect_interval))

    async def _await_shutdown(self) -> None:
        await self.shutdown.wait()
        self._dismiss()

    def _dismiss(self) -> None:
        self.waiters.end()
        for viewer in self._hub.viewers:
            viewer.end("shutdown", reconnect=True)

    def admit(
        self, outlet: Outlet, on_gone: Callable[[Viewer], object] = lambda _: None, *, shaping: Shaping = UNSHAPED
    ) -> Viewer:
        """A viewer that watches nothing yet; ``on_gone`` is called when it has left."""

        def gone(viewer: Viewer) -> None:
            self.gone(viewer)
            on_gone(viewer)

        viewer = Viewer(outlet, on_resumed=self._resumed, on_gone=gone, shaping=shaping)
        self.let_in(viewer)
        return viewer

    def let_in(self, viewer: Viewer) -> None:
        """Count it among the viewers, until it is `gone`."""
        self._hub.viewers.add(viewer)
        metrics.ACTIVE_STREAMS.inc()

    async def serve(self, outlet: Outlet, channel: Channel, asked: Asked) -> None:
        """Serve a new connection: what it misses first; returns when it is live, or gone."""
        viewer = self.admit(outlet, shaping=asked.shaping)
        viewer.greeted = False
        viewer.enter(channel)
        with cut_off_on_failure(viewer):
            arrival = await arrive(channel, asked)
            viewer.greeted = True
            viewer.write(self._connected(channel.topic, arrival, asked.shaping))
            if self._hub.away:
                viewer.write(degraded_message().frame)
            if passes(asked.shaping, "temporal_status") and not viewer.closed:
                self._ask_temporal(viewer, channel.topic)
            await bring(viewer, channel, arrival.place)

    def _connected(self, topic: Topic, arrival: Arrival, shaping: Shaping) -> bytes:
        connected = Connected(
            timestamp=now(),
            kind=topic.kind,
            id=topic.id,
            cursor=str(arrival.place),
            resumed=arrival.resumed,
            stale=arrival.stale or None,
            heartbeat=self._settings.heartbeat_interval,
            retry=self._settings.reconnect_interval,
            attempts=self._settings.max_reconnect_attempts,
            shaping=shaping,
        )
        known = arrival.known
        data = encode_data(connected, view=None if known is None else known.view)
        retry = self._settings.reconnect_interval
        frame = encode_frame("connected", data, frame_id=str(arrival.place), retry=retry)
        if known is None or known.latest is None or not passes(shaping, latest_name(topic)):
            return frame
        return frame + encode_frame(latest_name(topic), known.latest)

    def _ask_temporal(self, viewer: Viewer, topic: Topic) -> None:
        """Have Temporal's word on a workflow brought in when it comes; nothing waits for it."""
        if topic.kind != "workflow" or not self._temporal.configured:
            return

        async def ask() -> None:
            answer = await self._temporal.status(topic.id)
            if answer is not None:
                viewer.write(encode_frame("temporal_status", encode_data(answer)))

        viewer.question = self._hub.spawn(ask())

    def _resumed(self, viewer: Viewer) -> None:
        for channel, place in viewer.places.items():
            if place is not None:
                viewer.places[channel] = None
                self._hub.spawn(self._bring_back(viewer, channel, place))

    async def _bring_back(self, viewer: Viewer, channel: Channel, place: Cursor) -> None:
        with cut_off_on_failure(viewer):
            while not viewer.closed:
                if await come_back(viewer, channel, place):
                    return
                await asyncio.sleep(RETRY_SECONDS)

    def gone(self, viewer: Viewer) -> None:
        """A viewer has left."""
        self._hub.viewers.remove(viewer)
        metrics.ACTIVE_STREAMS.dec()
        if viewer.question is not None:
            viewer.question.cancel()
