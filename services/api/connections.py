"""Connections with many topics: how they begin, and how topics are added and dropped while they are open.

Whatever makes such a viewer join is done topic by topic, by one task of the connection at a time that ends when nothing
is left to do, and as fast as the viewer reads. So nothing is told twice, however topics come and go meanwhile, and no
more than one topic's state waits for who does not read.
"""

import asyncio
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from core.runtime.clock import now
from pipai_contracts.cursor import Cursor
from pipai_contracts.frames import Joined, Left, ManyConnected, encode_data, encode_frame
from pipai_contracts.ids import Topic
from services.api.asked import Asked
from services.api.audience import Audience
from services.api.channel import Channel
from services.api.hub import Hub
from services.api.joining import RETRY_SECONDS, bring, come_back, cut_off_on_failure
from services.api.latest import latest_name
from services.api.many import ManyViewer
from services.api.messages import Message, degraded_message, named_data
from services.api.outlets import Outlet
from services.api.settings import ApiSettings
from services.api.shaping import passes
from services.api.starts import arrive
from services.api.temporal_status import TemporalQuery
from services.api.viewer import Viewer

PATIENCE: Final = 3.0
"""Seconds a change waits for its viewer to read, and for Redis."""

_TOKEN_BYTES: Final = 16
"""Of a connection's id: who can guess it can have it watch something else."""

Places = Mapping[Topic, Cursor | None]
"""Topics, each with the cursor to come back after; None: to be shown its state."""


class UnknownConnectionError(LookupError):
    """No such connection is open in this process."""


class BusyConnectionError(RuntimeError):
    """The viewer of the connection has not read what waits for it; nothing was changed."""


class TooManyTopicsError(ValueError):
    """A connection cannot watch all these."""


class Connections:
    """The connections of one process that watch many topics. ``process`` is how their ids begin."""

    def __init__(
        self, hub: Hub, audience: Audience, temporal: TemporalQuery, settings: ApiSettings, process: str
    ) -> None:
        self._hub = hub
        self._audience = audience
        self._temporal = temporal
        self._settings = settings
        self._open: dict[str, ManyViewer] = {}
        self.process = process

    async def serve(
        self,
        outlet: Outlet,
        channels: Mapping[Channel, Cursor | None],
        asked: Asked,
        address: Sequence[Topic] | None = None,
    ) -> None:
        """Serve a new connection; returns when it is live, or gone. ``address``: see `ManyViewer`."""
        viewer = ManyViewer(
            outlet,
            f"{self.process}-{secrets.token_hex(_TOKEN_BYTES)}",
            address=address,
            asked=asked,
            on_resumed=self._resumed,
            on_gone=self._gone,
        )
        self._open[viewer.id] = viewer
        self._audience.let_in(viewer)
        for channel, cursor in channels.items():
            viewer.watch(channel, cursor)
        viewer.write(self._connected(viewer))
        if self._hub.away:
            viewer.write(degraded_message().frame)
        await self._catch_up(viewer)

    async def change(self, connection_id: str, add: Places, drop: Collection[Topic]) -> list[Topic]:
        """Have a connection watch some topics more and others no longer; returns what it watches then.

        Raises:
            UnknownConnectionError: it is not open here.
            BusyConnectionError: its viewer does not read; nothing was changed.
            TooManyTopicsError: nothing was changed.
            redis.exceptions.RedisError: Redis did not answer, and a topic is not watched here; nothing was changed.
            UnreadableViewError: the state of one of them cannot be read; nothing was changed.
        """
        viewer = self._open.get(connection_id)
        if viewer is None:
            raise UnknownConnectionError(connection_id)
        try:
            async with asyncio.timeout(PATIENCE), viewer.turn:
                await viewer.drained()
                stay = [topic for topic in viewer.topics if topic not in drop]
                new = {topic: cursor for topic, cursor in add.items() if topic not in stay}
                _check_room(viewer, [*stay, *new])
                channels = await self.open_channels(new)
                if viewer.closed:
                    raise UnknownConnectionError(connection_id)
                for channel in [channel for channel in viewer.places if channel.topic in drop]:
                    _drop(viewer, channel)
                for topic, channel in channels.items():
                    viewer.watch(channel, new[topic])
        except TimeoutError as error:
            raise BusyConnectionError(connection_id) from error
        self._hub.spawn(self._catch_up(viewer))
        return viewer.topics

    async def open_channels(self, places: Places) -> dict[Topic, Channel]:
        """The channels of these topics.

        Raises:
            redis.exceptions.RedisError: Redis did not answer, and this process has not heard of one of them.
            UnreadableViewError: what is stored of one is no view this build can read.
        """
        channels = await asyncio.gather(*(self._hub.channel(topic) for topic in places))
        return dict(zip(places, channels, strict=True))

    # Joining

    async def _catch_up(self, viewer: ManyViewer) -> None:
        """Do all there is to do until the viewer is told what happens in each of its topics."""
        if viewer.catching_up:
            return
        viewer.catching_up = True
        try:
            with cut_off_on_failure(viewer):
                while not viewer.closed and await self._join_next(viewer):
                    pass
        finally:
            viewer.catching_up = False

    async def _join_next(self, viewer: ManyViewer) -> bool:
        """Bring the viewer into one channel; False when there is none it is not in."""
        async with viewer.turn:
            await viewer.drained()
            channel = next(iter(viewer.waiting), None)
            if channel is not None:
                await self._join(viewer, channel, viewer.waiting.pop(channel))
                return True
            paused = next(((channel, place) for channel, place in viewer.places.items() if place is not None), None)
            if paused is None:
                return False
            channel, place = paused
            viewer.places[channel] = None
            if await come_back(viewer, channel, place):
                return True
            viewer.places[channel] = place
        await asyncio.sleep(RETRY_SECONDS)  # not in its turn: topics may be added and dropped meanwhile
        return True

    async def _join(self, viewer: ManyViewer, channel: Channel, cursor: Cursor | None) -> None:
        topic, shaping = channel.topic, viewer.asked.shaping
        arrival = await arrive(channel, viewer.asked._replace(cursor=cursor))
        known = arrival.known
        joined = Joined(
            timestamp=now(),
            topic=topic.name,
            cursor=str(arrival.place),
            resumed=arrival.resumed,
            stale=arrival.stale or None,
        )
        data = encode_data(joined, view=None if known is None else known.view)
        viewer.say(topic, Message("joined", data, arrival.place))
        if known is not None and known.latest is not None and passes(shaping, latest_name(topic)):
            viewer.show(topic, Message(latest_name(topic), known.latest, None))
        if passes(shaping, "temporal_status"):
            self._ask_temporal(viewer, topic)
        await bring(viewer, channel, arrival.place)

    def _ask_temporal(self, viewer: ManyViewer, topic: Topic) -> None:
        """Have Temporal asked about a workflow, one after another."""
        if topic.kind != "workflow" or not self._temporal.configured:
            return
        viewer.unasked[topic] = None
        if viewer.question is None or viewer.question.done():
            viewer.question = self._hub.spawn(self._ask(viewer))

    async def _ask(self, viewer: ManyViewer) -> None:
        while viewer.unasked:
            topic = next(iter(viewer.unasked))
            answer = await self._temporal.status(topic.id)
            if topic in viewer.unasked and answer is not None:
                viewer.write(encode_frame("temporal_status", named_data(topic, encode_data(answer))))
            viewer.unasked.pop(topic, None)

    def _connected(self, viewer: ManyViewer) -> bytes:
        connected = ManyConnected(
            timestamp=now(),
            connection_id=viewer.id,
            topics=tuple(topic.name for topic in viewer.topics),
            heartbeat=self._settings.heartbeat_interval,
            retry=self._settings.reconnect_interval,
            attempts=self._settings.max_reconnect_attempts,
            shaping=viewer.asked.shaping,
        )
        retry = self._settings.reconnect_interval
        return encode_frame("connected", encode_data(connected), frame_id=viewer.frame_id, retry=retry)

    def _resumed(self, viewer: Viewer) -> None:
        if isinstance(viewer, ManyViewer):
            self._hub.spawn(self._catch_up(viewer))

    def _gone(self, viewer: Viewer) -> None:
        if isinstance(viewer, ManyViewer):
            del self._open[viewer.id]
        self._audience.gone(viewer)


def _drop(viewer: ManyViewer, channel: Channel) -> None:
    viewer.leave(channel)
    data = encode_data(Left(timestamp=now(), topic=channel.topic.name))
    viewer.write(encode_frame("left", data, frame_id=viewer.frame_id))


def _check_room(viewer: ManyViewer, topics: Collection[Topic]) -> None:
    """Refuse more than the connection can watch.

    Raises:
        TooManyTopicsError: it cannot watch all these.
    """
    if len(topics) > viewer.most_topics:
        raise TooManyTopicsError(f"the connection can watch {viewer.most_topics} topics at most, not {len(topics)}")
    if not viewer.can_name(topics):
        raise TooManyTopicsError(
            "the names of topics that are not in its address are too long for the connection's ids"
        )
