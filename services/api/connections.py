"""Connections with many topics: how they begin, and how topics are added and dropped while they are open."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from redis.exceptions import RedisError

from core.runtime.clock import now
from core.runtime.logs import get_logger
from pipai_contracts.cursor import Cursor
from pipai_contracts.frames import Joined, Left, ManyConnected, Shaping, encode_data, encode_frame
from pipai_contracts.ids import Topic
from services.api import metrics
from services.api.audience import Audience
from services.api.channel import Channel
from services.api.hub import Hub
from services.api.joining import Entry, bring, enter_with_state
from services.api.latest import latest_name
from services.api.many import ManyViewer
from services.api.messages import Message, degraded_message, error_message
from services.api.outlets import Outlet
from services.api.settings import ApiSettings
from services.api.shaping import passes
from services.api.viewer import Viewer

log = get_logger()

Places = Mapping[Topic, Cursor | None]
"""Topics, each with the cursor to come back after; None: to be shown its state."""

_TOKEN_BYTES: Final = 16
"""Of a connection's id: who can guess it can have it watch something else."""

_UNTOLD: Final = object()


class UnknownConnectionError(LookupError):
    """No such connection is open in this process."""


class TooManyTopicsError(ValueError):
    """A connection cannot watch so many."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the connection can watch {most} topics at most")


class Connections:
    """The connections of one process that watch many topics. ``process`` is how their ids begin."""

    def __init__(self, hub: Hub, audience: Audience, settings: ApiSettings, process: str) -> None:
        self._hub = hub
        self._audience = audience
        self._settings = settings
        self._open: dict[str, ManyViewer] = {}
        self.process = process

    async def serve(
        self, outlet: Outlet, places: Places, shaping: Shaping, address: Sequence[Topic] | None = None
    ) -> None:
        """Serve a new connection; returns when it is live, or gone. ``address``: see `ManyViewer`."""
        viewer = ManyViewer(
            outlet,
            f"{self.process}-{secrets.token_hex(_TOKEN_BYTES)}",
            address=address,
            shaping=shaping,
            on_resumed=self._audience.resumed,
            on_gone=self._gone,
        )
        self._open[viewer.id] = viewer
        self._hub.viewers.add(viewer)
        viewer.told |= places
        viewer.write(self._connected(viewer, places, shaping))
        if self._hub.away:
            viewer.write(degraded_message().frame)
        await self._join_all(viewer, places)

    async def change(self, connection_id: str, add: Places, drop: Sequence[Topic]) -> list[Topic]:
        """Have a connection watch some topics more and others no longer; returns what it watches then.

        Raises:
            UnknownConnectionError: it is not open here.
            redis.exceptions.RedisError: Redis did not answer, and a topic is not watched here; nothing was changed.
            UnreadableViewError: the state of one of them cannot be read; nothing was changed.
            TooManyTopicsError: nothing was changed.
        """
        viewer = self._open.get(connection_id)
        if viewer is None:
            raise UnknownConnectionError(connection_id)
        new = {topic: cursor for topic, cursor in add.items() if topic not in viewer.told}
        if len(set(viewer.told) - set(drop)) + len(new) > viewer.most_topics:
            raise TooManyTopicsError(viewer.most_topics)
        await self.open_channels(new)
        for topic in drop:
            self._drop(viewer, topic)
        viewer.told |= new
        self._hub.spawn(self._join_all(viewer, new))
        return viewer.topics

    def _drop(self, viewer: ManyViewer, topic: Topic) -> None:
        channel = viewer.channel_of(topic)
        if channel is not None:
            viewer.leave(channel)
            metrics.ACTIVE_STREAMS.labels(topic.kind).dec()
        if viewer.told.pop(topic, _UNTOLD) is not _UNTOLD:
            viewer.say(topic, Message("left", encode_data(Left(timestamp=now(), topic=topic.name)), None))

    async def open_channels(self, places: Places) -> dict[Topic, Channel]:
        """The channels of these topics.

        Raises:
            redis.exceptions.RedisError: Redis did not answer, and this process has not heard of one of them.
            UnreadableViewError: what is stored of one is no view this build can read.
        """
        channels = await asyncio.gather(*(self._hub.channel(topic) for topic in places))
        return dict(zip(places, channels, strict=True))

    async def _join_all(self, viewer: ManyViewer, places: Places) -> None:
        try:
            for topic, cursor in places.items():
                channel = await self._hub.channel(topic)
                if viewer.closed or topic not in viewer.told:
                    continue
                viewer.enter(channel)
                metrics.ACTIVE_STREAMS.labels(topic.kind).inc()
                await self._join(viewer, channel, cursor)
        except RedisError:
            viewer.write(error_message("degraded", "The event store cannot be reached; come back later.").frame)
            viewer.cut()
        except ValueError:
            log.exception("stream state cannot be read")
            message = error_message("internal", "The state of a topic cannot be read.", retryable=False)
            viewer.write(message.frame)
            viewer.cut()

    async def _join(self, viewer: ManyViewer, channel: Channel, cursor: Cursor | None) -> None:
        topic = channel.topic
        entry = await enter_with_state(channel) if cursor is None else Entry(cursor, resumed=True)
        known = entry.known
        joined = Joined(
            timestamp=now(),
            topic=topic.name,
            cursor=str(entry.place),
            resumed=entry.resumed,
            stale=entry.stale or None,
        )
        data = encode_data(joined, view=None if known is None else known.view)
        viewer.say(topic, Message("joined", data, entry.place))
        if known is not None and known.latest is not None and passes(viewer.shaping, latest_name(topic)):
            viewer.show(topic, Message(latest_name(topic), known.latest, None))
        await bring(viewer, channel, entry.place)

    def _connected(self, viewer: ManyViewer, places: Places, shaping: Shaping) -> bytes:
        connected = ManyConnected(
            timestamp=now(),
            connection_id=viewer.id,
            topics=tuple(topic.name for topic in places),
            heartbeat=self._settings.heartbeat_interval,
            retry=self._settings.reconnect_interval,
            attempts=self._settings.max_reconnect_attempts,
            shaping=shaping,
        )
        retry = self._settings.reconnect_interval
        return encode_frame("connected", encode_data(connected), frame_id=viewer.frame_id, retry=retry)

    def _gone(self, viewer: Viewer) -> None:
        if isinstance(viewer, ManyViewer):
            self._open.pop(viewer.id, None)
        self._audience.gone(viewer)
