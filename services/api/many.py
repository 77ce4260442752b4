"""A connection that watches many topics."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from pipai_contracts.cursor import Cursor
from pipai_contracts.frames import encode_frame
from pipai_contracts.ids import Topic
from pipai_contracts.many import MAX_ADDRESS_TOPICS, MAX_TOPICS
from pipai_contracts.vector import fits, topic_id, vector_of
from services.api.asked import Asked
from services.api.channel import Channel
from services.api.messages import Message, Run, batch_message
from services.api.outlets import Outlet
from services.api.pieces import Piece
from services.api.shaping import Group
from services.api.viewer import Viewer


class ManyViewer(Viewer):
    """Watches any number of topics; the end of a run ends nothing.

    With ``address``, the topics of an EventSource's address, each event has an id of this connection's own: the whole
    vector, because that id is all such a client comes back with. Else frames are shared, and the client keeps the
    vector.
    """

    __slots__ = ("_address", "asked", "catching_up", "id", "told", "turn", "unasked", "waiting")

    def __init__(
        self,
        outlet: Outlet,
        connection_id: str,
        *,
        address: Sequence[Topic] | None,
        asked: Asked,
        on_resumed: Callable[[Viewer], None],
        on_gone: Callable[[Viewer], None],
    ) -> None:
        super().__init__(outlet, on_resumed=on_resumed, on_gone=on_gone, shaping=asked.shaping)
        self.id = connection_id
        self.told: dict[Topic, Cursor | None] = {}
        """How far it was told, of each topic it watches or is about to; None: nothing yet."""
        self.asked = asked
        self.waiting: dict[Channel, Cursor | None] = {}
        """Channels it is about to join: the cursor to go on after, None to be shown the state."""
        self.unasked: dict[Topic, None] = {}
        """Workflows Temporal is still to be asked about."""
        self.turn = asyncio.Lock()
        """Held while channels come or go, or what was missed of one is told: each is brought in by one at a time."""
        self.catching_up = False
        self._address = address

    @property
    def topics(self) -> list[Topic]:
        """What it watches, or is about to."""
        return list(self.told)

    @property
    def most_topics(self) -> int:
        """How many it may watch."""
        return MAX_TOPICS if self._address is None else MAX_ADDRESS_TOPICS

    @property
    def frame_id(self) -> str | None:
        """The id of a message that is about no topic; None where ids name one."""
        return None if self._address is None else str(vector_of(self._address, self.told))

    def can_name(self, topics: Iterable[Topic]) -> bool:
        """Whether its ids have room for these."""
        return self._address is None or fits(self._address, topics)

    def tell(self, channel: Channel, run: Run, /) -> None:
        """These messages come next; shaped, they may wait."""
        if self.closed or channel not in self.places:
            return
        if self._pacer is not None:
            self._pacer.tell(channel, run.messages)
        elif self._address is None:
            self.outlet.write(run.named(channel.topic))
        else:
            self._send(channel.topic, run.messages)

    def over(self, channel: Channel, /) -> None:
        """The topic's run has ended: other topics go on, and this one may."""

    def say(self, topic: Topic, message: Message) -> None:
        """Send a message about a topic, which names it itself, behind everything that waits."""
        if not self.closed:
            self._flush()
            self.outlet.write(Piece(encode_frame(message.event, message.data, frame_id=self._id_after(topic, message))))

    def show(self, topic: Topic, message: Message) -> None:
        """Send a topic's event that is not one of its feed."""
        if not self.closed:
            self._send(topic, [message])

    def watch(self, channel: Channel, cursor: Cursor | None) -> None:
        """Be about to join this one too."""
        self.enter(channel)
        self.told[channel.topic] = cursor
        self.waiting[channel] = cursor

    def leave(self, channel: Channel) -> None:
        """Watch this one no longer; what waits of it is still told."""
        if self._pacer is not None:
            self._pacer.drop(channel)
        super().leave(channel)
        del self.told[channel.topic]
        self.waiting.pop(channel, None)
        self.unasked.pop(channel.topic, None)

    def _deliver(self, channel: Channel, groups: Sequence[Group]) -> None:
        if not self.closed:
            topic = channel.topic
            self._send(topic, [group[0] if len(group) == 1 else batch_message(group, topic) for group in groups])

    def _send(self, topic: Topic, messages: Sequence[Message]) -> None:
        self.outlet.write(Piece(b"".join(self._frame(topic, message) for message in messages)))

    def _frame(self, topic: Topic, message: Message) -> bytes:
        return message.named(topic, self._id_after(topic, message))

    def _id_after(self, topic: Topic, message: Message) -> str | None:
        """The id of a message; where the viewer stands is noted."""
        if message.cursor is None:
            return None
        self.told[topic] = message.cursor
        return self.frame_id or topic_id(topic, message.cursor)
