"""How a viewer joins a channel, without a gap and without a double.

It is told what lies between where it stands and the channel's own cursor: from the ring when that reaches back so far,
else from the feed, a page at a time as fast as it reads. When nothing is missing it is attached, in the same step.
Where only the store can tell (the viewer is ahead of this process, or of another epoch) the store is asked.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from redis.exceptions import RedisError

from core.runtime.logs import get_logger
from core.views.errors import UnreadableViewError
from pipai_contracts.cursor import Cursor
from pipai_contracts.frames import ResetReason
from services.api import metrics
from services.api.channel import RUN_BYTES, Channel
from services.api.known import Known
from services.api.memory import PAGE
from services.api.messages import Message, Run, error_message, reset_message
from services.api.places import leads_to, why_apart
from services.api.viewer import Viewer

RETRY_SECONDS: Final = 1.0
"""Until a viewer that reads again is tried again, when the store did not answer."""

_NAMED: Final = 10
"""Topics a log line names."""

log = get_logger()


async def bring(viewer: Viewer, channel: Channel, place: Cursor) -> None:
    """Tell the viewer, who stands at ``place``, what it misses, and attach it.

    Raises:
        redis.exceptions.RedisError: Redis did not answer; the viewer is not attached.
        UnreadableViewError: the state it would have to be reset to cannot be read.
    """
    count = PAGE
    while not viewer.closed:
        if not leads_to(place, channel.cursor):
            known = await channel.memory.look(fresh=True)
            if leads_to(place, channel.cursor):
                continue
            reason = why_apart(place, known.cursor)
            if reason is None:
                viewer.attach(channel, place)
                return
            place = _reset(viewer, channel, known, reason)
            continue
        missed = channel.memory.after(place.pos)
        if missed is not None:
            if missed:
                viewer.tell(channel, Run(missed))
            viewer.attach(channel, channel.cursor)
            return
        if not await channel.memory.reach_back(place.pos):
            place, count = await _read_feed(viewer, channel, place, count)


async def _read_feed(viewer: Viewer, channel: Channel, place: Cursor, count: int) -> tuple[Cursor, int]:
    """Tell the viewer up to ``count`` events of the feed; returns where it stands then, and how many to read next.

    What it does not take at once is not kept for it, but read again: a page may have megabytes.
    """
    cursor = channel.cursor
    page = await channel.memory.page(place.pos, count)
    if channel.cursor.epoch != cursor.epoch:
        return place, count
    if not page:
        known = await channel.memory.look(fresh=True)
        if why_apart(channel.cursor, known.cursor) is None:
            return _reset(viewer, channel, known, "trimmed"), count
        await channel.reconsider()  # else each reset would lead nowhere, and to the next one
        return place, count
    told, count = 0, min(2 * count, PAGE)
    for run in _runs(page):
        viewer.tell(channel, run)
        told += len(run.messages)
        if viewer.outlet.paused:
            count = told
            break
    await viewer.drained()
    return page[told - 1].cursor or place, count


def _runs(messages: Sequence[Message]) -> Iterator[Run]:
    """The same in parts that are written at once."""
    part: list[Message] = []
    size = 0
    for message in messages:
        part.append(message)
        size += len(message.frame)
        if size >= RUN_BYTES:
            yield Run(part)
            part, size = [], 0
    if part:
        yield Run(part)


def _reset(viewer: Viewer, channel: Channel, known: Known, reason: ResetReason) -> Cursor:
    metrics.RESETS.labels(reason).inc()
    viewer.tell(channel, Run([reset_message(known, reason)]))
    return known.cursor


@contextmanager
def cut_off_on_failure(viewer: Viewer) -> Generator[None]:
    """Tell a viewer that cannot be brought in why, and close its connection, whatever the reason is.

    One that stayed would get heartbeats, and never an event.
    """
    try:
        yield
    except RedisError:
        viewer.write(error_message("degraded", "The event store cannot be reached; come back later.").frame)
        viewer.cut()
    except Exception:
        log.exception("stream cannot be joined", topics=[channel.topic.path for channel in viewer.places][:_NAMED])
        message = error_message("internal", "The state of a topic cannot be read.", retryable=False)
        viewer.write(message.frame)
        viewer.cut()


async def come_back(viewer: Viewer, channel: Channel, place: Cursor) -> bool:
    """Go on with a viewer that did not read for a while: with the state, if it missed more than the ring has.

    False when the state cannot be read just now: it is to be tried again after `RETRY_SECONDS`.
    """
    try:
        if place.epoch != channel.cursor.epoch or channel.memory.after(place.pos) is None:
            place = _reset(viewer, channel, await channel.memory.look(), "slow")
        await bring(viewer, channel, place)
    except (RedisError, UnreadableViewError):
        return False
    return True
