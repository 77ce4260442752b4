"""A slice stands in another log as it stood in its own."""

import pytest
from redis.asyncio import Redis

from core.log.entry import Entry
from core.log.keys import Keys
from core.log.read import read_entries
from core.log.slice import NewerEntriesError, Placed, SliceWriter
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, StreamId


def _placed(number: int, topic: str = "w", stream_id: StreamId | None = None, user: bytes = b"") -> Placed:
    fields = {b"id": b"e%d" % number, b"offset": b"77", b"user": user, b"data": b"{}"}
    return Placed(
        "workflow:progress", Topic("default", "workflow", topic), Entry(stream_id or StreamId(number, 0), fields)
    )


async def test_ids_two_partitions_had_used_make_way_by_one(redis: Redis, key_prefix: str) -> None:
    writer = SliceWriter(redis, Keys(key_prefix), owner_ttl=60)
    for number, stream_id in enumerate((StreamId(5, 0), StreamId(5, 0), StreamId(5, 1), StreamId(9, 0))):
        await writer.add(_placed(number, f"w{number}", stream_id))
    await writer.finish()
    source = Keys(key_prefix).source("workflow:progress", 0)
    entries = await read_entries(redis, source, after=BEGINNING, count=9)
    assert [str(entry.stream_id) for entry in entries] == ["5-0", "5-1", "5-2", "9-0"]


async def test_a_call_whose_reply_was_lost_changes_nothing_when_it_comes_again(redis: Redis, key_prefix: str) -> None:
    keys = Keys(key_prefix)
    for _ in range(2):
        writer = SliceWriter(redis, keys, owner_ttl=60)
        for number in (1, 2, 3):
            await writer.add(_placed(number))
        await writer.finish()
    source = keys.source("workflow:progress", 0)
    assert await redis.xlen(source.key) == 3
    assert await redis.get(source.offset) == b"3"


async def test_who_appends_meanwhile_is_noticed(redis: Redis, key_prefix: str) -> None:
    writer = SliceWriter(redis, Keys(key_prefix), owner_ttl=60)
    await redis.xadd(Keys(key_prefix).source("workflow:progress", 0).key, {"id": "x"}, id="9-0")
    await writer.add(_placed(1))
    with pytest.raises(NewerEntriesError, match="somebody appends"):
        await writer.finish()


async def test_the_first_owner_is_remembered_for_a_while(redis: Redis, key_prefix: str) -> None:
    writer = SliceWriter(redis, Keys(key_prefix), owner_ttl=60)
    await writer.add(_placed(1))
    await writer.add(_placed(2, user=b"ada"))
    await writer.finish()
    owner = Keys(key_prefix).source("workflow:progress", 0).owner(Topic("default", "workflow", "w"))
    assert await redis.get(owner) == b"ada"
    assert 0 < await redis.ttl(owner) <= 60
