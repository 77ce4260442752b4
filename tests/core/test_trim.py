"""Source streams are kept at their length, and nothing is trimmed that a view still needs."""

import pytest
from redis.asyncio import Redis

from core.log.append import Appender
from core.log.keys import Keys, Source
from core.log.read import read_entries
from core.log.trim import Trimmer
from pipai_contracts.record import BEGINNING
from tests.core.telling import step


@pytest.fixture
def source(keys: Keys) -> Source:
    return keys.source("workflow:progress", 0)


async def _append(appender: Appender, first: int, last: int) -> None:
    await appender.append([step(1).envelope(f"e{number}") for number in range(first, last + 1)])


async def _offsets(redis: Redis, source: Source) -> list[int]:
    return [entry.offset for entry in await read_entries(redis, source, after=BEGINNING, count=10_000)]


async def _trim(trimmer: Trimmer, redis: Redis, source: Source, offset: int) -> None:
    """Trim with the checkpoint at the event that has this offset."""
    entries = await read_entries(redis, source, after=BEGINNING, count=10_000)
    (stream_id,) = [entry.stream_id for entry in entries if entry.offset == offset]
    await trimmer.trim(source, offset, stream_id)


async def test_what_every_view_has_is_trimmed_to_the_length(redis: Redis, appender: Appender, source: Source) -> None:
    await _append(appender, 1, 50)

    await _trim(Trimmer(redis, max_entries=20), redis, source, 50)

    assert await _offsets(redis, source) == list(range(31, 51))


async def test_what_a_view_still_needs_stays(redis: Redis, appender: Appender, source: Source) -> None:
    await _append(appender, 1, 50)

    await _trim(Trimmer(redis, max_entries=20), redis, source, 7)

    assert await _offsets(redis, source) == list(range(8, 51))


async def test_events_appended_since_the_checkpoint_was_read_stay(
    redis: Redis, appender: Appender, source: Source
) -> None:
    """The checkpoint a projector knows is always a little old; what came since then is not counted as trimmable."""
    trimmer = Trimmer(redis, max_entries=10)
    await _append(appender, 1, 120)
    await _trim(trimmer, redis, source, 120)
    await _append(appender, 121, 400)
    await _trim(trimmer, redis, source, 230)

    assert await _offsets(redis, source) == list(range(231, 401))


async def test_a_stream_is_not_trimmed_for_every_few_events(redis: Redis, appender: Appender, source: Source) -> None:
    trimmer = Trimmer(redis, max_entries=10)
    await _append(appender, 1, 20)
    await _trim(trimmer, redis, source, 20)
    await _append(appender, 21, 60)
    await _trim(trimmer, redis, source, 60)

    assert len(await _offsets(redis, source)) == 50


async def test_a_stream_that_began_anew_is_trimmed_again(redis: Redis, appender: Appender, source: Source) -> None:
    trimmer = Trimmer(redis, max_entries=10)
    await _append(appender, 1, 300)
    await _trim(trimmer, redis, source, 300)
    await redis.delete(source.key, source.offset)
    await _append(appender, 301, 420)
    await _trim(trimmer, redis, source, 110)
    await _trim(trimmer, redis, source, 120)

    assert len(await _offsets(redis, source)) == 10


async def test_entries_added_by_hand_push_nothing_out_that_a_view_still_needs(
    redis: Redis, appender: Appender, source: Source
) -> None:
    """They have no offset: whoever counts offsets takes each of them for an event less to keep."""
    await _append(appender, 1, 10)
    for _ in range(8):
        await redis.xadd(source.key, {"by": "hand"})

    await _trim(Trimmer(redis, max_entries=2), redis, source, 4)

    assert [offset for offset in await _offsets(redis, source) if offset] == list(range(5, 11))
    assert await redis.xlen(source.key) == 14


async def test_entries_added_by_hand_before_the_checkpoint_go_with_the_events(
    redis: Redis, appender: Appender, source: Source
) -> None:
    await redis.xadd(source.key, {"by": "hand"})
    await _append(appender, 1, 10)

    await _trim(Trimmer(redis, max_entries=2), redis, source, 10)

    assert await _offsets(redis, source) == [9, 10]


async def test_a_stream_far_over_its_length_is_trimmed_bit_by_bit(
    redis: Redis, appender: Appender, source: Source
) -> None:
    """Redis does nothing else meanwhile, so a thousand entries go at once and no more."""
    trimmer = Trimmer(redis, max_entries=10)
    for first in range(1, 1200, 300):
        await _append(appender, first, first + 299)

    await _trim(trimmer, redis, source, 1100)
    assert len(await _offsets(redis, source)) == 200

    await _trim(trimmer, redis, source, 1200)
    assert len(await _offsets(redis, source)) == 10
