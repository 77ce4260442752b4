"""Events no view can take are kept whole, once."""

from typing import Any, cast

import pytest
from redis.asyncio import Redis

from core.log.dead import DeadLetters
from core.log.entry import Entry
from core.log.keys import Keys, Source
from pipai_contracts.record import StreamId


@pytest.fixture
def source(keys: Keys) -> Source:
    return keys.source("workflow:progress", 0)


async def _letters(redis: Redis, keys: Keys, source: Source) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in cast("list[Any]", await redis.xrange(keys.dead(source)))]


async def test_a_dead_letter_has_the_error_and_the_whole_original(redis: Redis, keys: Keys, source: Source) -> None:
    entry = Entry(StreamId(5, 1), {b"id": b"e1", b"data": b"\xff\x00"})

    await DeadLetters(redis, keys).park(source, entry, ValueError("bad"))

    assert await _letters(redis, keys, source) == [
        {
            b"stream_id": b"5-1",
            b"error": b"ValueError: bad",
            b"original:id": b"e1",
            b"original:data": b"\xff\x00",
        }
    ]


async def test_parking_again_changes_nothing(redis: Redis, keys: Keys, source: Source) -> None:
    dead = DeadLetters(redis, keys)
    entries = [Entry(StreamId(number, 0), {b"id": b"x"}) for number in (1, 2, 3)]
    for entry in (*entries, *entries):
        await dead.park(source, entry, ValueError("bad"))

    assert [letter[b"stream_id"] for letter in await _letters(redis, keys, source)] == [b"1-0", b"2-0", b"3-0"]


async def test_an_older_entry_is_parked_behind_a_newer_one(redis: Redis, keys: Keys, source: Source) -> None:
    dead = DeadLetters(redis, keys)
    for number in (9, 5):
        await dead.park(source, Entry(StreamId(number, 0), {b"id": b"x"}), ValueError("bad"))

    assert [letter[b"stream_id"] for letter in await _letters(redis, keys, source)] == [b"9-0", b"5-0"]


async def test_a_very_long_error_is_cut(redis: Redis, keys: Keys, source: Source) -> None:
    await DeadLetters(redis, keys).park(source, Entry(StreamId(1, 0), {b"id": b"x"}), ValueError("x" * 10_000))

    (letter,) = await _letters(redis, keys, source)
    assert len(letter[b"error"]) == 2000
