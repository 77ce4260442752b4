"""Where a first connection begins: at the state, or at an event of the feed."""

from typing import assert_never

from pipai_contracts.cursor import START, Cursor
from services.api.asked import Asked, FromPosition, FromTime
from services.api.channel import Channel
from services.api.joining import Entry, enter_with_state


async def enter(channel: Channel, asked: Asked) -> Entry:
    """Where the viewer comes in; with a cursor it goes on there, whatever else its address says.

    A browser comes back to the very address it began with: only the cursor it sends is up to date.

    Raises:
        redis.exceptions.RedisError: Redis did not answer, and memory does not go so far.
        UnreadableViewError: what is stored is no view this build can read.
    """
    if asked.cursor is not None:
        return Entry(asked.cursor, resumed=True)
    match asked.start:
        case "snapshot":
            return await enter_with_state(channel)
        case "live":
            return Entry(channel.cursor)
        case "beginning":
            return Entry(START)
        case FromPosition(pos):
            return Entry(await _before(channel, pos))
        case FromTime(milliseconds):
            return Entry(await _before_time(channel, milliseconds))
        case _:
            assert_never(asked.start)


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
