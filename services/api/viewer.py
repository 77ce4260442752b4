"""One connection that watches a topic.

A viewer is told things by its channel and writes them to its outlet. It has no task and no queue of its own: while it
keeps up it only stands in its channel's set, and one that does not is out of the set until it has read what waits. Only
where its stream is shaped does something wait for it to leave, in its pacer; heartbeats apart, nothing overtakes that.
"""

import asyncio
from collections.abc import Callable, Sequence

from pipai_contracts.cursor import Cursor
from pipai_contracts.frames import DisconnectReason, Shaping
from services.api import metrics
from services.api.channel import Channel
from services.api.messages import Run, batch_message, farewell
from services.api.outlets import Outlet
from services.api.pacing import Pacer
from services.api.pieces import Piece
from services.api.shaping import UNSHAPED, Group, is_shaped


class Viewer:
    """Watches one topic."""

    __slots__ = (
        "_drained", "_on_gone", "_on_resumed", "_pacer", "closed", "expires", "greeted", "outlet", "places", "question",
    )  # fmt: skip

    def __init__(
        self,
        outlet: Outlet,
        *,
        on_resumed: "Callable[[Viewer], None]",
        on_gone: "Callable[[Viewer], None]",
        shaping: Shaping = UNSHAPED,
    ) -> None:
        self.outlet = outlet
        self.closed = False
        self.greeted = True
        """What is said to everybody reaches it; not before ``connected``, which says the same of that moment."""
        self.expires = 0.0
        """When its connection has lived long enough, by the event loop's clock."""
        self.places: dict[Channel, Cursor | None] = {}
        """Its channels. None while it is attached, or being brought there; else how far it was told when it paused."""
        self.question: asyncio.Task[None] | None = None
        """Temporal is being asked for its word on the workflow."""
        self._on_resumed = on_resumed
        self._on_gone = on_gone
        self._drained: asyncio.Event | None = None
        self._pacer = Pacer(shaping, self._deliver) if is_shaped(shaping) else None
        outlet.writer = self

    # What its channels tell

    def tell(self, channel: Channel, run: Run, /) -> None:
        """These messages come next; shaped, they may wait."""
        if self.closed:
            return
        if self._pacer is None:
            self.outlet.write(run.piece)
        else:
            self._pacer.tell(channel, run.messages)

    def over(self, channel: Channel, /) -> None:  # noqa: ARG002 - who watches several asks which
        """The topic's run has ended a while ago: so does the stream."""
        self.end("ended", reconnect=False)

    # What its connection tells

    def paused(self) -> None:
        """It does not read: nothing more is written before it does, and what waits stays."""
        for channel in self.places:
            place = channel.detach(self)
            if place is not None:
                self.places[channel] = place
        if self._pacer is not None:
            self._pacer.hold()

    def resumed(self) -> None:
        """It reads again."""
        if self._pacer is not None:
            self._pacer.go_on()
        if self._drained is not None:
            self._drained.set()
        if any(self.places.values()):
            self._on_resumed(self)

    def gone(self) -> None:
        """The connection is closed."""
        if self.closed:
            return
        self.closed = True
        if self._pacer is not None:
            self._pacer.close()
        for channel in list(self.places):
            self.leave(channel)
        if self._drained is not None:
            self._drained.set()
        self._on_gone(self)

    # What its service does with it

    def enter(self, channel: Channel) -> None:
        """Begin to watch this channel too; it is kept for as long as the viewer is there."""
        if channel not in self.places and not self.closed:
            self.places[channel] = None
            channel.holders += 1
            metrics.WATCHED_TOPICS.labels(channel.topic.kind).inc()

    def leave(self, channel: Channel) -> None:
        """Watch this one no longer."""
        channel.detach(self)
        channel.holders -= 1
        metrics.WATCHED_TOPICS.labels(channel.topic.kind).dec()
        del self.places[channel]

    def attach(self, channel: Channel, place: Cursor) -> None:
        """It has been told everything up to ``place``, and is told what comes, once it has read enough of it."""
        if self.closed or channel not in self.places:
            return
        if self.outlet.paused:
            self.places[channel] = place
        else:
            self.places[channel] = None
            channel.attach(self, place)

    def write(self, frames: bytes) -> None:
        """Send frames that are no topic's events, behind what waits."""
        self._flush()
        if not self.closed:
            self.outlet.write(Piece(frames))

    async def drained(self) -> None:
        """Wait until there is room for more, or the viewer is gone."""
        while self.outlet.paused and not self.closed:
            self._drained = asyncio.Event()
            await self._drained.wait()
        self._drained = None

    def end(self, reason: DisconnectReason, *, reconnect: bool, retry: int | None = None) -> None:
        """Say why, and close."""
        if not self.closed:
            self.write(farewell(reason, reconnect=reconnect, retry=retry))
            self.cut()

    def cut(self) -> None:
        """Close without a farewell: it is to come back."""
        if not self.closed:
            self.outlet.close()
            self.gone()

    # Shaped

    def _flush(self) -> None:
        """Send what waits."""
        if self._pacer is not None:
            self._pacer.flush()

    def _deliver(self, channel: Channel, groups: Sequence[Group]) -> None:  # noqa: ARG002 - who watches several asks which
        if not self.closed:
            messages = [group[0] if len(group) == 1 else batch_message(group) for group in groups]
            self.outlet.write(Piece(b"".join(message.frame for message in messages)))
