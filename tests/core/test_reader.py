"""The log is read again: each entry once, in order, with what is known of it."""

from typing import Any

import pytest
from redis.asyncio import Redis

from core.log import reader
from core.log.append import Appender
from core.log.dead import DeadLetters
from core.log.entry import Entry
from core.log.keys import Keys, Source
from core.log.read import read_entries
from core.log.reader import Continuity, LogReader, topics_named
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, StreamId
from tests.core.telling import ai, step


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_PAGE", 3)
    monkeypatch.setattr(reader, "_SMALLEST_PAGE", 2)


@pytest.fixture
def log(redis: Redis, keys: Keys) -> LogReader:
    return LogReader(redis, keys)


@pytest.fixture
def source(keys: Keys) -> Source:
    return keys.source("workflow:progress", 0)


async def _add(redis: Redis, source: Source, at: int, **fields: Any) -> None:
    await redis.xadd(source.key, {"x": "y", **fields}, id=f"{at}-0")


@pytest.mark.parametrize("count", [0, 1, 3, 7])
async def test_a_source_is_read_whole_over_all_pages(
    redis: Redis, log: LogReader, source: Source, appender: Appender, count: int
) -> None:
    await appender.append([step(number).envelope(f"e{number}") for number in range(count)])
    read = [logged async for logged in log.read(source)]
    assert [logged.entry for logged in read] == await read_entries(redis, source, after=BEGINNING, count=100)
    assert [logged.entry.offset for logged in read] == list(range(1, count + 1))
    assert not any(logged.parked for logged in read)


async def test_reading_begins_after_one_position_and_ends_at_another(
    redis: Redis, log: LogReader, source: Source
) -> None:
    for at in range(1, 10):
        await _add(redis, source, at)
    read = [logged.entry async for logged in log.read(source, after=StreamId(2, 0), upto=StreamId(7, 0))]
    assert [entry.stream_id.milliseconds for entry in read] == [3, 4, 5, 6, 7]
    assert [logged async for logged in log.read(source, after=StreamId(7, 0), upto=StreamId(7, 0))] == []


async def test_what_was_parked_is_marked(redis: Redis, keys: Keys, log: LogReader, source: Source) -> None:
    for at in range(1, 9):
        await _add(redis, source, at)
    for entry in (await read_entries(redis, source, after=BEGINNING, count=100))[::3]:
        await DeadLetters(redis, keys).park(source, entry, ValueError("bad"))
    assert [logged.entry.stream_id.milliseconds async for logged in log.read(source) if logged.parked] == [1, 4, 7]


async def test_sources_are_read_together_in_the_order_of_the_ids(redis: Redis, keys: Keys, log: LogReader) -> None:
    """Of one id, by topic: two partitions may have used it."""
    one, other, empty = (keys.source(name, 0) for name in ("workflow:progress", "ai:progress", "notifications"))
    for at in (1, 2, 3, 4, 8):
        await _add(redis, one, at, topic="workflow:b")
    for at in (2, 5, 6, 7, 9):
        await _add(redis, other, at, topic="workflow:a")
    upto = {one: None, other: StreamId(7, 0), empty: None}
    read = [(logged.source, logged.entry.stream_id.milliseconds) async for logged in log.read_together(upto)]
    assert read == [
        *[(one, 1), (other, 2), (one, 2), (one, 3), (one, 4)],
        *[(other, 5), (other, 6), (other, 7), (one, 8)],
    ]


async def test_entries_are_found_where_they_stand(
    redis: Redis, log: LogReader, keys: Keys, source: Source, appender: Appender
) -> None:
    first, gone, said = await appender.append([step(1).envelope("a"), step(2).envelope("b"), ai("x").envelope("c")])
    await redis.xdel(source.key, gone.stream_id)
    other = keys.source("ai:progress", 0)
    places = [(other, said), (source, gone), (source, first)]
    found = await log.find([(at, StreamId.parse(one.stream_id)) for at, one in places])
    assert [entry and entry.fields[b"id"] for entry in found] == [b"c", None, b"a"]


async def test_the_newest_id_is_known_also_of_what_is_gone(redis: Redis, log: LogReader, source: Source) -> None:
    assert await log.newest(source) == BEGINNING
    for at in (1, 2):
        await _add(redis, source, at)
    await redis.xtrim(source.key, maxlen=0, approximate=False)
    assert await log.newest(source) == StreamId(2, 0)


def test_offsets_tell_where_something_is_missing() -> None:
    def entry(offset: int | None) -> Entry:
        return Entry(BEGINNING, {} if offset is None else {b"offset": b"%d" % offset})

    continuity = Continuity()
    assert [continuity.follows(entry(offset)) for offset in (1, 2, None, 3, 5, 6, 4)] == [
        *[True, True, True, True, False, True, False]
    ]
    assert continuity.offset == 4
    assert not Continuity().follows(entry(2)), "what stood at the beginning is gone"
    assert Continuity(7).follows(entry(8))


@pytest.mark.parametrize(
    ("fields", "topics"),
    [
        ({"tenant": "t", "topic": "workflow:w", "user": "ada"}, ["t:workflow:w", "t:user:ada"]),
        ({"tenant": "t", "topic": "workflow:w", "user": ""}, ["t:workflow:w"]),
        ({"tenant": "t", "topic": "workflow:w"}, ["t:workflow:w"]),
        ({"tenant": "t", "topic": "user:ada", "user": "ada"}, ["t:user:ada"]),
        ({"tenant": "t", "topic": "nothing:w"}, []),
        ({"x": "y"}, []),
    ],
)
def test_an_entry_nobody_can_decode_may_name_its_topics(fields: dict[str, str], topics: list[str]) -> None:
    entry = Entry(BEGINNING, {name.encode(): value.encode() for name, value in fields.items()})
    assert topics_named(entry) == [Topic.parse(path) for path in topics]


def test_bytes_that_are_no_text_name_no_topic() -> None:
    assert topics_named(Entry(BEGINNING, {b"tenant": b"t", b"topic": b"workflow:\xff"})) == []
