"""A topic's view as it was at some moment, folded from its history."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Final

from core.log.archive.archive import SlowSearchError
from core.log.archive.bases import Base
from core.log.history import GivenUp, History
from core.log.keys import Keys, partition_of
from core.views.erased import left_of
from core.views.folds import decode_state, evolve, initial
from core.views.moments import (
    At,
    AtPosition,
    AtTime,
    BackwardsError,
    BeginningGoneError,
    Cut,
    NothingYetError,
    NotReachedError,
    TooManyStepsError,
    ViewAt,
    check_reached,
)
from core.views.project import FOLD_ERRORS
from core.views.rebuild import first_event, heard_sources
from core.views.store import ViewStore
from core.views.stored import Stored, epoch_of
from pipai_contracts.cursor import Cursor
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, Record, StreamId

_SECONDS: Final = 20.0
_AT_ONCE: Final = 4
"""Views that are folded at a time for those who ask: folding takes from the time of live viewers."""

MOST_STEPS: Final = 10_000
"""Events between two moments that are looked at one by one."""


class Patience:
    """Bounds the time in which events are folded for somebody who waits."""

    def __init__(self) -> None:
        self._ends = time.monotonic() + _SECONDS

    def check(self) -> None:
        """Go on, or give up.

        Raises:
            SlowSearchError: it has taken too long.
        """
        if time.monotonic() > self._ends:
            raise SlowSearchError


class Past:
    """Shows how views of one deployment were.

    A position within the live feed means what it means there. Any other counts the topic's events in the order of
    their stream ids, then of the names of their streams.

    Its methods raise `redis.exceptions.RedisError`, what `History.read_topic` raises, and a `PastError` for a moment
    that cannot be shown.
    """

    def __init__(self, history: History, store: ViewStore, keys: Keys, *, feed_length: int) -> None:
        self._history = history
        self._store = store
        self._keys = keys
        self._feed_length = feed_length
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def at(self, topic: Topic, at: At) -> ViewAt:
        """The view at that moment.

        Raises:
            NothingYetError, NotReachedError, BeginningGoneError: it cannot be shown.
        """
        async with self._turns:
            return await self._at(topic, at)

    async def _at(self, topic: Topic, at: At) -> ViewAt:
        live = await self._load(topic)
        cut = await self._cut(topic, live, at)
        given_up, patience = await self._given_up_before(topic, at), Patience()
        moment = _begin(topic, given_up.base)
        async for record in self._since_begin(topic, live, given_up, cut.until):
            patience.check()
            if moment.pos == cut.count:
                break
            if cut.has(record, moment.pos):
                moment = _after(moment, record)
        if not moment.pos:
            raise NothingYetError(f"{topic.name} had no event by then")
        if isinstance(at, AtPosition) and moment.pos < at.pos:
            raise NotReachedError(f"{topic.name} has {moment.pos} events")
        return replace(moment, cursor=cut.cursor)

    async def between(self, topic: Topic, since: At, upto: At) -> tuple[ViewAt, list[ViewAt]]:
        """The view at the first of two moments, and after each event from there to the second.

        Before the topic's first event it is the view of a topic nobody heard of.

        Raises:
            NotReachedError, BeginningGoneError, BackwardsError, TooManyStepsError: it cannot be shown.
        """
        async with self._turns:
            return await self._between(topic, since, upto)

    async def _between(self, topic: Topic, since: At, upto: At) -> tuple[ViewAt, list[ViewAt]]:
        live = await self._load(topic)
        first, last = await self._cut(topic, live, since), await self._cut(topic, live, upto)
        given_up, patience = await self._given_up_before(topic, since), Patience()
        begin = _begin(topic, given_up.base)
        later: list[Record] = []
        async for record in self._since_begin(topic, live, given_up, last.until):
            patience.check()
            count = begin.pos + len(later)
            is_later = last.has(record, count)
            if first.has(record, begin.pos):
                if not is_later:
                    raise BackwardsError("the first moment is after the second")
                begin = _after(begin, record)
            elif is_later:
                later.append(record)
                if len(later) > MOST_STEPS:
                    raise TooManyStepsError(f"more than {MOST_STEPS:,} events are between the two")
            elif count == last.count:
                break
        check_reached(since, upto, begin.pos, begin.pos + len(later))
        steps = [begin]
        for record in later:  # the order within each stream is kept, and no view depends on more
            steps.append(_after(steps[-1], record))
        return begin, steps[1:]

    async def events(self, topic: Topic, until: int | None = None) -> AsyncGenerator[tuple[ViewAt, ViewAt]]:
        """The view before and after each of the topic's events that are there, in the order of the log.

        Those appended before ``until`` (milliseconds).

        Raises:
            BeginningGoneError: the first of them are gone, and nobody knows what the view was then.
        """
        given_up = await self._given_up(topic)
        moment = _begin(topic, given_up.base)
        async for record in self._since_begin(topic, await self._load(topic), given_up, until):
            before, moment = moment, _after(moment, record)
            if moment is not before:
                yield before, moment

    async def _given_up(self, topic: Topic) -> GivenUp:
        given_up = await self._history.given_up(topic)
        return given_up._replace(base=left_of(given_up.base, await self._history.hidden()))

    async def _given_up_before(self, topic: Topic, at: At) -> GivenUp:
        """What of the history was given up.

        Raises:
            BeginningGoneError: the moment is in there.
        """
        given_up = await self._given_up(topic)
        base = given_up.base
        if base is not None:
            newest = max([base.until - 1, *(one.milliseconds for one in base.heard.values())])
            if at.pos < base.pos if isinstance(at, AtPosition) else at.milliseconds < newest:
                raise BeginningGoneError(f"the history of {topic.name} was given up before its event {base.pos + 1}")
        return given_up

    async def _load(self, topic: Topic) -> Stored | None:
        """The live view; None when there is none, or none that can be read."""
        stored = (await self._store.load([topic])).get(topic)
        return stored if stored is not None and stored.version else None

    async def _cut(self, topic: Topic, live: Stored | None, at: At) -> Cut:
        if isinstance(at, AtTime):
            return Cut(milliseconds=at.milliseconds)
        if live is None or at.pos > live.pos:
            return Cut(count=at.pos)
        try:
            later = await self._store.read_feed(topic, after=at.pos, upto=live.pos, count=self._feed_length)
        except (LookupError, ValueError):
            later = []
        if len(later) < live.pos - at.pos or any(item.stream_id == BEGINNING for item in later):
            return Cut(count=at.pos)  # trimmed, or another hand wrote to it: the history knows better
        generation = await self._store.generation(partition_of(topic, self._keys.partitions))
        beyond = {(item.event, item.stream_id) for item in later}
        return Cut(heard=live.heard, later=beyond, cursor=Cursor(epoch_of(generation, live.first), at.pos))

    async def _since_begin(
        self, topic: Topic, live: Stored | None, given_up: GivenUp, until: int | None
    ) -> AsyncGenerator[Record]:
        """The events of the topic.

        Raises:
            BeginningGoneError: the live view began before the first of them.
        """
        first = BEGINNING if live is None else first_event(live.first)
        gone = BeginningGoneError(f"the events with which {topic.name} began are not in the history any more")
        base = given_up.base
        begun = base is not None
        async for page in self._history.read_topic(topic, given_up, until=until):
            if not begun and not await self._is_beginning(topic, page[0].stream_id, first):
                raise gone
            begun = True
            for record in page:
                if base is None or not base.has(record):
                    yield record
        if not begun and first > BEGINNING and (until is None or first.milliseconds < until):
            raise gone

    async def _is_beginning(self, topic: Topic, oldest: StreamId, first: StreamId) -> bool:
        """Whether nothing came before the oldest event there is; the live view says what its ``first`` was."""
        since = await self._history.whole_since(heard_sources(self._keys, topic))  # behind the read: it moves on
        if since > BEGINNING:
            return oldest == first >= since
        return first == BEGINNING or oldest <= first


def _begin(topic: Topic, base: Base | None) -> ViewAt:
    return ViewAt(0, initial(topic)) if base is None else ViewAt(base.pos, decode_state(topic.kind, base.state))


def _after(moment: ViewAt, record: Record) -> ViewAt:
    """The moment after one more event; one the fold cannot take is in no view."""
    try:
        state = evolve(moment.state, record)
    except FOLD_ERRORS:
        return moment
    return ViewAt(moment.pos + 1, state, record)
