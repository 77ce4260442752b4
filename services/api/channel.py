"""One watched topic of this process: how far it has been followed, and who watches it.

All viewers of a topic stand at the channel's own cursor, so an event is checked once and written to all. The few that
do not (their snapshot was newer than what this process had followed to) wait in `_ahead` until the channel has caught
up.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Literal, Protocol

from core.runtime.logs import get_logger
from pipai_contracts.cursor import Cursor
from pipai_contracts.frames import ResetReason
from pipai_contracts.ids import Topic
from services.api import metrics
from services.api.known import Known
from services.api.memory import Memory
from services.api.messages import Message, Run, degraded_message, error_message, reset_message
from services.api.places import follows, is_at_least, is_beyond, why_apart
from services.api.ring import RingSpace
from services.api.sources import TopicSource

LINGER_SECONDS: Final = 2.0
"""How long a stream stays open after its run ended: a run that follows at once is seen without a reconnect."""

_RETRY_SECONDS: Final = 1.0
"""Until the state is asked for again after the store did not answer."""

_MAX_EARLY: Final = 1_000
"""Events that wait while the channel looks at the store."""

RUN_BYTES: Final = 64 * 1024
"""About how much is written to a viewer at once: one that does not read is noticed in between."""

Doubt = Literal["began", "epoch", "lost", "recovered"]
"""Why the channel may have missed something: the hub follows only from here; an event of another epoch came, or the
store is elsewhere; positions jump, or a generation was raised; Redis was away."""

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

log = get_logger()


class Watcher(Protocol):
    """Who watches a channel. What it is told is written or dropped at once, never waited for."""

    def tell(self, channel: "Channel", run: Run, /) -> None:
        """These messages come next."""
        ...

    def over(self, channel: "Channel", /) -> None:
        """The topic's run has ended a while ago."""
        ...


class Channel:
    """Follows one topic for its viewers."""

    __slots__ = (
        "_ahead",
        "_delivered",
        "_doubt",
        "_early",
        "_live",
        "_opened",
        "_over",
        "_settling",
        "_spawn",
        "_tells_all",
        "ended",
        "holders",
        "left",
        "memory",
        "topic",
    )

    def __init__(self, topic: Topic, source: TopicSource, space: RingSpace, spawn: Spawn) -> None:
        self.topic = topic
        self.memory = Memory(topic, source, space)
        self.ended = False
        self.holders = 0
        """How many viewers have it, those included that are not attached just now."""
        self.left = 0.0
        """When it was last held, by the event loop's clock."""
        self._spawn = spawn
        self._delivered = metrics.DELIVERED.labels(topic.kind)
        self._tells_all = log.is_enabled_for(logging.DEBUG)
        self._live: set[Watcher] = set()
        self._ahead: dict[Watcher, Cursor] = {}
        self._early: list[Message] | None = []
        self._doubt: Doubt | None = None
        self._settling: asyncio.Task[None] | None = None
        self._opened = False
        self._over: asyncio.TimerHandle | None = None

    @property
    def cursor(self) -> Cursor:
        """How far the topic has been followed."""
        return self.memory.cursor

    def close(self) -> None:
        """Give back what it holds."""
        self.memory.forget()

    # Joining

    async def open(self) -> None:
        """Learn where the topic stands; at once when that is known.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
            UnreadableViewError: what is stored is no view this build can read.
        """
        if self._opened:
            return
        known = await self.memory.look()
        if not self._opened:
            self._opened = True
            self.memory.cursor, self.ended = known.cursor, known.ended
            early, self._early = self._early or [], None
            self.take(early)
            if self._doubt is not None:
                self.doubt(self._doubt)

    def attach(self, watcher: Watcher, place: Cursor) -> None:
        """From now on the watcher, who has been told everything up to ``place``, is told what comes."""
        if place == self.cursor:
            self._live.add(watcher)
        else:
            self._ahead[watcher] = place
        if self.ended:
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._tell_over, watcher)

    def detach(self, watcher: Watcher) -> Cursor | None:
        """Tell the watcher nothing more; returns how far it was told, None when it was not attached."""
        if watcher in self._live:
            self._live.discard(watcher)
            return self.cursor
        return self._ahead.pop(watcher, None)

    # Following

    def take(self, messages: Sequence[Message]) -> None:
        """The next events of the change feed: told to everybody, or kept while the channel is in doubt."""
        if self._early is not None:
            self._early += messages
            if len(self._early) > _MAX_EARLY:
                self._early.clear()
                self._doubt = self._doubt or "lost"
            return
        run: list[Message] = []
        size = 0
        for index, message in enumerate(messages):
            place = message.cursor
            if place is None or (place.epoch == self.cursor.epoch and place.pos <= self.cursor.pos):
                continue
            if not follows(place, self.cursor):
                self._hand_out(run)
                self.doubt("epoch" if self.cursor.epoch and place.epoch != self.cursor.epoch else "lost")
                self.take(messages[index:])
                return
            if run and size > RUN_BYTES:
                self._hand_out(run)
                run, size = [], 0
            self.memory.cursor = place
            if message.ends is not None:
                self._set_ended(ended=message.ends)
            run.append(message)
            size += len(message.frame)
        self._hand_out(run)

    def _hand_out(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        self.memory.add(messages)
        run = Run(messages)
        # A copy: a viewer that cannot take more leaves while it is told.
        watchers = tuple(self._live)
        for watcher in watchers:
            watcher.tell(self, run)
        if self._ahead:
            self._tell_those_ahead(messages)
        self._delivered.inc(len(watchers) * len(messages))
        if self._tells_all:
            for message in messages:
                pos = message.cursor and message.cursor.pos
                log.debug("stream event delivered", topic=self.topic.path, pos=pos, viewers=len(watchers))
        if self._live:
            self.memory.keep_up()

    def _tell_those_ahead(self, messages: Sequence[Message]) -> None:
        for watcher, place in list(self._ahead.items()):
            news = [message for message in messages if message.cursor is not None and is_beyond(message.cursor, place)]
            if is_at_least(self.cursor, place):
                del self._ahead[watcher]
                self._live.add(watcher)
            if news:
                watcher.tell(self, Run(news))

    # Doubt

    def doubt(self, doubt: Doubt) -> None:
        """Have the store looked at for what may have been missed; events wait meanwhile."""
        self._doubt = self._doubt or doubt
        if not self._opened:
            return  # what opening it finds may be from before: it is looked at again then
        if self._early is None:
            self._early = []
        if self._settling is None:
            self._settling = self._spawn(self._settle())

    async def reconsider(self) -> None:
        """Go where the store is, which nothing leads to from here; returns when the channel is there."""
        self.doubt("epoch")
        if self._settling is not None:
            await asyncio.shield(self._settling)

    async def _settle(self) -> None:
        doubt, warned = self._doubt, None
        while doubt is not None:
            self._doubt = None
            try:
                await self._bring_to(await self.memory.look(fresh=True), lost=doubt == "lost")
            except Exception as error:  # noqa: BLE001 - whatever it is: a channel left in doubt tells nobody anything
                if warned is None:
                    log.warning("stream state cannot be read", topic=self.topic.path, error=str(error) or repr(error))
                    warned = tuple(self._live)
                    self._tell(warned, Run([degraded_message()]))
                self._doubt = self._doubt or doubt
                await asyncio.sleep(_RETRY_SECONDS)
            doubt = self._doubt
        self._settling = None
        if warned is not None:  # whom nobody else tells: for the hub Redis was there all the while
            run = Run([error_message("recovered", "The state of this topic can be read again.")])
            self._tell([watcher for watcher in warned if watcher in self._live], run)
        early, self._early = self._early or [], None
        self.take(early)

    async def _bring_to(self, known: Known, *, lost: bool) -> None:
        """Tell what lies between the cursor and what is known now, a page of the feed at a time; else reset.

        ``lost``: something was, so that is the reason. Stops where there is a new doubt.
        """
        reason = why_apart(self.cursor, known.cursor)
        while reason is None and self._doubt is None and self.cursor.pos < known.cursor.pos:
            page = await self.memory.page(self.cursor.pos, upto=known.cursor)
            if page:
                early, self._early = self._early, None
                self.take(page)
                self._early = early
            else:
                reason = "trimmed"
        if reason is not None:
            self._reset(known, "lost" if lost else reason)
        elif known.cursor == self.cursor:
            self._set_ended(ended=known.ended)

    def _reset(self, known: Known, reason: ResetReason) -> None:
        self.memory.cursor = known.cursor
        self.memory.forget()
        run = Run([reset_message(known, reason)])
        told = list(self._live)
        for watcher, place in list(self._ahead.items()):
            if not is_at_least(place, known.cursor):
                told.append(watcher)
            elif place != known.cursor:
                continue
            del self._ahead[watcher]
            self._live.add(watcher)
        self._set_ended(ended=known.ended)
        metrics.RESETS.labels(reason).inc(len(told))
        log.info("stream reset", topic=self.topic.path, reason=reason, viewers=len(told))
        self._tell(told, run)

    def _tell(self, watchers: Sequence[Watcher], run: Run) -> None:
        for watcher in watchers:
            watcher.tell(self, run)

    # The end of a run

    def _set_ended(self, *, ended: bool) -> None:
        # From the end of the run, not from the last event: what trickles in after it must not keep streams open.
        if ended and not self.ended:
            self._over = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._tell_all_over)
        elif not ended and self._over is not None:
            self._over.cancel()
            self._over = None
        self.ended = ended

    def _tell_all_over(self) -> None:
        self._over = None
        for watcher in [*self._live, *self._ahead]:
            self._tell_over(watcher)

    def _tell_over(self, watcher: Watcher) -> None:
        # A run that began and ended since has a time of its own, for everybody.
        if self.ended and self._over is None and (watcher in self._live or watcher in self._ahead):
            watcher.over(self)
