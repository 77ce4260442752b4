"""Where a viewer comes in: at its cursor, at the state, or at an event of the feed."""

from dataclasses import dataclass
from typing import assert_never

from redis.exceptions import RedisError

from pipai_contracts.cursor import START, Cursor
from services.api.asked import Asked, FromPosition, FromTime
from services.api.channel import Channel
from services.api.known import Known


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a viewer comes in: ``place`` is how far it counts as told, ``known`` the state it is shown.

    ``resumed``: it has been told so much before. ``stale``: Redis is away, and the state is from memory.
    """

    place: Cursor
    known: Known | None = None
    resumed: bool = False
    stale: bool = False


async def arrive(channel: Channel, asked: Asked) -> Arrival:
    """Where the viewer comes in; with a cursor it goes on there, whatever else its address says.

    A browser comes back to the very address it began with: only the cursor it sends is up to date.

    Raises:
        redis.exceptions.RedisError: Redis did not answer, and memory does not go so far.
        UnreadableViewError: what is stored is no view this build can read.
    """
    if asked.cursor is not None:
        return Arrival(asked.cursor, resumed=True)
    match asked.start:
        case "snapshot":
            return await _at_the_state(channel)
        case "live":
            return Arrival(channel.cursor)
        case "beginning":
            return Arrival(START)
        case FromPosition(pos):
            return Arrival(await _before(channel, pos))
        case FromTime(milliseconds):
            return Arrival(await _before_time(channel, milliseconds))
        case _:
            assert_never(asked.start)


async def _at_the_state(channel: Channel) -> Arrival:
    """Come in with the state as it is.

    Raises:
        redis.exceptions.RedisError: Redis did not answer, and memory does not go so far.
        UnreadableViewError: what is stored is no view this build can read.
    """
    try:
        known = await channel.memory.look()
    except RedisError:
        known = channel.memory.known
        if known is None or not _reaches(channel, known.cursor):
            raise
        return Arrival(known.cursor, known, stale=True)
    return Arrival(known.cursor, known)


def _reaches(channel: Channel, cursor: Cursor) -> bool:
    return cursor.epoch == channel.cursor.epoch and channel.memory.after(cursor.pos) is not None


async def _before(channel: Channel, pos: int) -> Cursor:
    """The place from which ``pos`` comes next; the beginning where there is no history it could be in."""
    epoch = channel.cursor.epoch or (await channel.memory.look(fresh=True)).cursor.epoch
    return Cursor(epoch, pos - 1) if epoch and pos > 1 else START


async def _before_time(channel: Channel, milliseconds: int) -> Cursor:
    """The place from which the first event appended then or later comes next; the newest where none was yet.

    The beginning, which then is no longer there, where that event may be among those the feed has given up.
    """
    known = await channel.memory.look(fresh=True)
    epoch, upto = known.cursor
    pos = await channel.memory.first_since(milliseconds, upto=upto)
    if pos is None:
        return known.cursor
    return Cursor(epoch, pos - 1) if pos > 1 else START
