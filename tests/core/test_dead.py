"""Events no view can take are kept whole, once, and parking them stops nothing."""

import time
from typing import Any

import pytest
from redis.asyncio import Redis

from core.log import dead
from core.log.dead import DeadLetters, unpack
from core.log.entry import Entry
from core.log.keys import Keys, Source
from pipai_contracts.record import StreamId
from tests.core.dead_letters import DeadEnd


@pytest.fixture
def source(keys: Keys) -> Source:
    return keys.source("workflow:progress", 0)


@pytest.fixture
def dead_end(redis: Redis, keys: Keys, source: Source) -> DeadEnd:
    return DeadEnd(redis, keys, source)


async def test_a_dead_letter_has_the_error_the_attempt_and_the_whole_original(dead_end: DeadEnd) -> None:
    before = time.time() * 1000
    await dead_end.park_raw(5, {b"id": b"e1", b"data": b"\xff\x00"})

    (letter,) = await dead_end.letters()
    assert abs(int(letter.fields.pop(b"parked")) - before) < 60_000
    assert letter == Entry(
        StreamId(5, 0),
        {
            b"stream_id": b"5-0",
            b"error": b"ValueError: bad",
            b"attempts": b"1",
            b"original:id": b"e1",
            b"original:data": b"\xff\x00",
        },
    )


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)], ids=["rising ids", "ids that went back"])
async def test_projecting_a_stretch_again_parks_nothing_twice(dead_end: DeadEnd, order: tuple[int, ...]) -> None:
    assert [(await dead_end.park(number)).now for number in (*order, *order)] == [True] * 3 + [False] * 3
    parked = [letter.fields[b"stream_id"] for letter in await dead_end.letters()]
    assert parked == [f"{number}-0".encode() for number in order]


async def test_a_letter_that_was_dealt_with_is_not_parked_again(redis: Redis, keys: Keys, dead_end: DeadEnd) -> None:
    """Its event went elsewhere: read again it would count twice."""
    for number in (1, 2):
        await dead_end.park(number)
    await redis.xdel(keys.dead(dead_end.source), "1-0")

    assert not (await dead_end.park(1)).now
    assert await dead_end.ids() == ["2-0"]


async def test_what_was_parked_is_known_when_it_is_read_again(redis: Redis, keys: Keys, dead_end: DeadEnd) -> None:
    for number in (2, 4, 6):
        await dead_end.park(number)
    entries = [Entry(StreamId(number, 0), {}) for number in range(1, 6)]
    letters = DeadLetters(redis, keys)
    assert await letters.parked_among(dead_end.source, entries) == {StreamId(2, 0), StreamId(4, 0)}
    assert await letters.parked_among(dead_end.source, []) == set()


async def test_only_entries_that_can_be_read_again_are_remembered(redis: Redis, keys: Keys, dead_end: DeadEnd) -> None:
    """Without this the memory of what was parked would grow for ever."""
    parked: Any = keys.parked(dead_end.source)
    for number in (1, 2, 3):
        await dead_end.park(number)
    await redis.xadd(dead_end.source.key, {"x": "y"}, id="3-0")
    await dead_end.park(4)
    assert await redis.zrange(parked, 0, -1) == [b"3-0", b"4-0"]


async def test_an_event_that_was_redriven_says_how_often_it_was_tried(dead_end: DeadEnd) -> None:
    for number, told in enumerate((b"1", b"7", b"", b"x", b"\xb2", b"9" * 40), start=1):
        await dead_end.park(number, attempts=told)
    assert [letter.fields[b"attempts"] for letter in await dead_end.letters()] == [b"2", b"8", b"1", b"1", b"1", b"1"]


async def test_the_oldest_letter_goes_when_there_are_too_many_and_that_is_said(
    dead_end: DeadEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "MAX_DEAD", 3)
    assert [(await dead_end.park(number)).pushed_out for number in range(1, 6)] == [0, 0, 0, 1, 1]
    assert await dead_end.ids() == ["3-0", "4-0", "5-0"]


async def test_ten_thousand_letters_are_kept(redis: Redis, keys: Keys, dead_end: DeadEnd) -> None:
    key = keys.dead(dead_end.source)
    async with redis.pipeline(transaction=False) as pipe:
        for number in range(1, 10_001):
            pipe.xadd(key, {"stream_id": f"{number}-0"}, id=f"{number}-0")
        await pipe.execute()

    assert (await dead_end.park(10_001)).pushed_out == 1
    assert await redis.xlen(key) == 10_000


async def test_a_very_long_error_is_cut(dead_end: DeadEnd) -> None:
    await dead_end.park(1, error="x" * 10_000)
    (letter,) = await dead_end.letters()
    assert len(letter.fields[b"error"]) == 2000


async def test_an_error_that_is_no_utf_8_is_kept_readable(dead_end: DeadEnd) -> None:
    await dead_end.park(1, error="a \udcff b")
    (letter,) = await dead_end.letters()
    assert letter.fields[b"error"] == rb"ValueError: a \udcff b"


async def test_an_entry_of_very_many_fields_is_parked_whole(dead_end: DeadEnd) -> None:
    """Redis's Lua cannot take them one by one; an error here would stop the source for ever."""
    fields = {b"\xff%d" % number: b"\x00%d" % number for number in range(20_000)}
    assert (await dead_end.park_raw(1, fields)).now
    (letter,) = await dead_end.letters()
    assert unpack(letter.fields[b"packed"]) == fields


async def test_an_entry_of_many_megabytes_is_parked_whole(dead_end: DeadEnd) -> None:
    await dead_end.park(1, data=b"x" * 20_000_000)
    (letter,) = await dead_end.letters()
    assert len(letter.fields[b"original:data"]) == 20_000_000


@pytest.mark.parametrize("what", ["dead", "parked"])
async def test_a_key_of_the_wrong_type_is_put_aside(redis: Redis, keys: Keys, dead_end: DeadEnd, what: str) -> None:
    """Parking goes on, and what stood there can be looked at for some days."""
    key, aside = getattr(keys, what)(dead_end.source), keys.aside(dead_end.source, what)
    await redis.set(key, "mine")

    parked = await dead_end.park(1)

    assert (parked.now, parked.put_aside) == (True, 1)
    assert await dead_end.ids() == ["1-0"]
    assert await redis.get(aside) == b"mine"
    assert await redis.ttl(aside) > 0
