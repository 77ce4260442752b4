"""When the messages of a shaped stream leave: it costs a timer, and that only while something waits."""

import asyncio
from collections.abc import Callable, Sequence

from pipai_contracts.frames import Shaping
from services.api.channel import Channel
from services.api.messages import Message, position_message
from services.api.shaping import Group, Shaper

Deliver = Callable[[Channel, Sequence[Group]], None]
"""Sends a viewer what leaves of a channel, now."""


class Pacer:
    """Shapes each of a viewer's channels by itself, and has what waits delivered in time."""

    __slots__ = ("_deliver", "_due", "_held", "_loop", "_shapers", "_shaping", "_timer")

    def __init__(self, shaping: Shaping, deliver: Deliver) -> None:
        self._shaping = shaping
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._shapers: dict[Channel, Shaper] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._held = False

    def tell(self, channel: Channel, messages: Sequence[Message]) -> None:
        """These messages of the channel come next."""
        shaper = self._shapers.get(channel)
        if shaper is None:
            shaper = self._shapers[channel] = Shaper(self._shaping, position_message)
        now = self._loop.time()
        self._send(channel, [group for message in messages for group in shaper.offer(now, message)])
        self._set_timer()

    def flush(self) -> None:
        """Deliver everything that waits: what is written next must come behind it."""
        for channel, shaper in list(self._shapers.items()):
            self._send(channel, shaper.flush(self._loop.time()))
        self._set_timer()

    def drop(self, channel: Channel) -> None:
        """The viewer has nothing to do with the channel any more, once what waits is delivered."""
        shaper = self._shapers.pop(channel, None)
        if shaper is not None:
            self._send(channel, shaper.flush(self._loop.time()))
            self._set_timer()

    def hold(self) -> None:
        """Let it wait, however long: the viewer does not read."""
        self._held = True
        self._set_timer()

    def go_on(self) -> None:
        """The viewer reads again."""
        self._held = False
        self._set_timer()

    def close(self) -> None:
        """Nobody waits for it any more."""
        self._shapers.clear()
        self._set_timer()

    def _send(self, channel: Channel, groups: Sequence[Group]) -> None:
        if groups:
            self._deliver(channel, groups)

    def _set_timer(self) -> None:
        dues = [] if self._held else [due for shaper in self._shapers.values() if (due := shaper.due) is not None]
        if not dues:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        due = min(dues)
        if self._timer is not None:
            if due == self._due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = max(self._loop.time(), self._due)  # the loop's timers may come a clock tick early
        for channel, shaper in list(self._shapers.items()):
            self._send(channel, shaper.release(now))
        self._set_timer()
