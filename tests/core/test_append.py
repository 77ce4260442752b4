"""What stands in the log after an append, on a real Redis."""

import re
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError

from core.log.append import MAX_PER_CALL, Appender
from core.log.entry import decode
from core.log.errors import DamagedLogError, LogUnavailableError
from core.log.keys import Keys
from core.log.read import read_entries
from core.runtime.redis import command_client
from pipai_contracts.envelope import Envelope, EventTooLargeError
from pipai_contracts.events import MAX_EVENT_BYTES
from pipai_contracts.record import BEGINNING
from pipai_contracts.sealed import seal
from services.standalone.embedded import redis_server
from tests.core.telling import Told, ai, analysis, notice, step, temporal


def _envelopes(*told: Told) -> list[Envelope]:
    return [one.envelope(f"e{number}") for number, one in enumerate(told, start=1)]


async def _stored(redis: Redis, keys: Keys) -> list[bytes]:
    """Every key of this test."""
    return cast("list[bytes]", await redis.keys(f"*{keys.prefix}*"))


async def test_offsets_count_one_by_one_in_each_stream(appender: Appender) -> None:
    published = await appender.append(
        _envelopes(step(1), analysis(1), step(2), ai("x"), temporal("running"), notice("n"))
    )

    assert [one.offset for one in published] == [1, 1, 2, 1, 3, 1]
    assert [one.topic for one in published] == [
        "workflow:w",
        "file:f",
        "workflow:w",
        "workflow:w",
        "workflow:w",
        "user:ada",
    ]
    assert (await appender.append([step(3).envelope("next")]))[0].offset == 4


async def test_a_repeated_event_is_answered_with_where_the_first_stands(
    appender: Appender, redis: Redis, keys: Keys
) -> None:
    (first,) = await appender.append([step(1).envelope("same")])
    again, twice = await appender.append([step(2).envelope("same"), step(3).envelope("same")])

    assert again == twice == first.model_copy(update={"duplicate": True})
    assert not first.duplicate
    assert await redis.xlen(keys.source("workflow:progress", 0).key) == 1


async def test_a_repeat_within_one_call_is_found_too(appender: Appender) -> None:
    first, again = await appender.append([step(1).envelope("same"), step(1).envelope("same")])

    assert (first.duplicate, again.duplicate) == (False, True)
    assert first.stream_id == again.stream_id


async def test_the_same_event_id_in_another_topic_is_another_event(appender: Appender) -> None:
    told = [step(1).envelope("same"), step(1, of="v").envelope("same"), analysis(1, of="w").envelope("same")]

    assert [one.duplicate for one in await appender.append(told)] == [False] * 3


async def test_ids_with_colons_do_not_run_into_each_other(appender: Appender) -> None:
    """Topic ``a`` with event ``b:c`` and topic ``a:b`` with event ``c`` read the same when joined by colons."""
    published = await appender.append([step(1, of="a").envelope("b:c"), step(1, of="a:b").envelope("c")])

    assert [one.duplicate for one in published] == [False, False]


async def test_the_owner_is_the_first_user_a_topic_was_published_with(
    appender: Appender, redis: Redis, keys: Keys
) -> None:
    await appender.append(_envelopes(step(1), step(2).by("ada"), step(3), step(4).by("bob"), step(5, of="v")))

    source = keys.source("workflow:progress", 0)
    records = [decode(source, entry) for entry in await read_entries(redis, source, after=BEGINNING, count=10)]
    assert [record.envelope.user_id for record in records] == [None, "ada", "ada", "ada", None]


async def test_more_events_than_one_call_takes_keep_their_order(appender: Appender, redis: Redis, keys: Keys) -> None:
    count = 2 * MAX_PER_CALL + 50
    published = await appender.append(_envelopes(*(step(1, f"step {number}") for number in range(count))))

    source = keys.source("workflow:progress", 0)
    entries = await read_entries(redis, source, after=BEGINNING, count=count + 1)
    assert [one.offset for one in published] == [entry.offset for entry in entries] == list(range(1, count + 1))
    assert [one.stream_id for one in published] == [str(entry.stream_id) for entry in entries]
    steps = [decode(source, entry).envelope.event.model_dump()["step"] for entry in entries]
    assert steps == [f"step {number}" for number in range(count)]


async def test_nothing_is_stored_when_one_event_is_too_large(appender: Appender, redis: Redis, keys: Keys) -> None:
    with pytest.raises(EventTooLargeError):
        await appender.append(_envelopes(step(1), step(2, message="x" * MAX_EVENT_BYTES)))

    assert await _stored(redis, keys) == []


async def test_an_entry_is_plain_text_to_anyone_who_reads_the_stream(
    appender: Appender, redis: Redis, keys: Keys
) -> None:
    told = Told(step(50, message="é").event, run="r1", user="ada", second=5)
    (published,) = await appender.append([told.envelope("mine")])

    ((stream_id, fields),) = cast("list[Any]", await redis.xrange(keys.source("workflow:progress", 0).key))
    assert stream_id.decode() == published.stream_id
    assert [(name.decode(), value.decode()) for name, value in fields.items()] == [
        ("id", "mine"),
        ("type", "workflow_progress"),
        ("v", "1"),
        ("tenant", "default"),
        ("topic", "workflow:w"),
        ("offset", "1"),
        ("user", "ada"),
        ("run", "r1"),
        ("time", "2025-01-01T00:00:05.000Z"),
        ("data", '{"workflow_id":"w","step":"read","progress":50,"message":"é"}'),
    ]


async def test_what_was_appended_is_read_back_the_same(appender: Appender, redis: Redis, keys: Keys) -> None:
    told = [step(1, metadata={"n": 2**80}), temporal("failed", message="m"), Told(step(2).event, "r", "ada", 3)]
    sent = _envelopes(*told)
    await appender.append(sent)

    source = keys.source("workflow:progress", 0)
    entries = await read_entries(redis, source, after=BEGINNING, count=10)
    assert [decode(source, entry).envelope for entry in entries] == sent


async def test_ai_events_belong_to_who_owns_their_workflow(appender: Appender, redis: Redis, keys: Keys) -> None:
    """Whatever they say themselves, as soon as the workflow has an owner."""
    await appender.append(_envelopes(ai("a").by("bob"), step(1).by("ann"), ai("b").by("bob"), ai("c")))
    await appender.append([ai("d").by("bob").envelope("d"), ai("e").envelope("e"), ai("f", of="v").envelope("f")])

    source = keys.source("ai:progress", 0)
    entries = await read_entries(redis, source, after=BEGINNING, count=10)
    users = [decode(source, entry).envelope.user_id for entry in entries]
    assert users == ["bob", "bob", "bob", "ann", "ann", None]


@pytest.mark.parametrize("which", ["stream", "counter", "counter that is no number"])
async def test_a_broken_key_of_the_log_stores_nothing_and_is_named(
    appender: Appender, redis: Redis, keys: Keys, which: str
) -> None:
    source = keys.source("workflow:progress", 0)
    wrong = source.key if which == "stream" else source.offset
    if which == "counter":
        await redis.rpush(wrong, "text")
    else:
        await redis.set(wrong, "text")
    await redis.expire(wrong, 60)

    with pytest.raises(DamagedLogError, match=re.escape(f"cannot append to {source.key}: {wrong} ")):
        await appender.append([step(1).by("ada").envelope("mine")])

    assert set(await _stored(redis, keys)) <= {wrong.encode(), keys.layout.encode()}
    await redis.delete(wrong)
    assert (await appender.append([step(1).envelope("mine")]))[0].offset == 1


@pytest.mark.parametrize("which", ["owner", "seen"])
async def test_a_note_of_the_wrong_type_is_made_anew_and_keeps_no_event_out(
    appender: Appender, redis: Redis, keys: Keys, which: str
) -> None:
    source = keys.source("workflow:progress", 0)
    events = [seal(step(1, of=name).by("ada").envelope(f"e{number}")) for number, name in enumerate("abac")]
    topic = events[0].topic
    wrong = source.owner(topic) if which == "owner" else source.seen(topic, "e0")
    await redis.rpush(wrong, "text")
    before = REGISTRY.get_sample_value("pipai_repaired_keys_total", {"key": which}) or 0

    answers = await appender.append_to(source, events)

    assert [getattr(answer, "offset", None) for answer in answers] == [1, 2, 3, 4]
    assert await redis.get(source.owner(topic)) == b"ada"
    assert await redis.exists(source.seen(topic, "e0"))
    assert REGISTRY.get_sample_value("pipai_repaired_keys_total", {"key": which}) == before + 1


async def test_a_note_nobody_can_read_is_none(appender: Appender, redis: Redis, keys: Keys) -> None:
    source = keys.source("workflow:progress", 0)
    envelope = step(1).envelope("mine")
    await redis.set(source.seen(envelope.topic, "mine"), "by another hand")

    [first], [repeat] = await appender.append([envelope]), await appender.append([envelope])

    assert (first.offset, first.duplicate, repeat.offset, repeat.duplicate) == (1, False, 1, True)


async def test_an_owner_that_cannot_be_read_does_not_keep_out_ai_events(
    appender: Appender, redis: Redis, keys: Keys
) -> None:
    source = keys.source("workflow:progress", 0)
    topic = step(1).envelope("x").topic
    await redis.rpush(source.owner(topic), "text")
    await redis.expire(source.owner(topic), 60)

    assert [one.offset for one in await appender.append(_envelopes(ai("a").by("bob"), ai("b", of="v")))] == [1, 2]


async def test_a_replica_takes_nothing_and_says_so(tmp_path: Path, keys: Keys) -> None:
    """As an error the client knows: after a failover it makes a new connection, and tries again."""
    with redis_server(tmp_path) as server:
        async with Redis.from_url(server.address, protocol=2) as replica:
            await replica.replicaof("127.0.0.1", 1)
            appender = Appender(replica, keys, idempotency_window=60, owner_ttl=60)
            with pytest.raises(LogUnavailableError) as refused:
                await appender.append([step(1).envelope("mine")])

    assert isinstance(refused.value.__cause__, ReadOnlyError)


async def test_a_redis_that_does_not_answer_is_told(keys: Keys) -> None:
    async with command_client("redis://127.0.0.1:1") as nowhere:
        appender = Appender(nowhere, keys, idempotency_window=60, owner_ttl=60)
        with pytest.raises(LogUnavailableError):
            await appender.append([step(1).envelope("mine")])


@pytest.mark.parametrize("partitions", [1, 8])
async def test_events_of_one_topic_stand_in_one_partition(redis: Redis, key_prefix: str, partitions: int) -> None:
    appender = Appender(redis, Keys(key_prefix, partitions), idempotency_window=60, owner_ttl=60)

    published = await appender.append(_envelopes(*(step(1, of=f"w{number % 20}") for number in range(100))))

    streams = {one.topic: {other.stream for other in published if other.topic == one.topic} for one in published}
    assert all(len(names) == 1 for names in streams.values())
    assert len({one.stream for one in published}) > partitions // 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2", "3"])), max_size=12))
async def test_each_event_id_of_a_topic_is_appended_once(
    redis: Redis, keys: Keys, appender: Appender, sent: list[tuple[str, str]]
) -> None:
    await redis.delete("none", *await _stored(redis, keys))

    published = await appender.append([step(1, of=topic).envelope(event_id) for topic, event_id in sent])

    assert sum(not one.duplicate for one in published) == len(set(sent))
    assert len({one.stream_id for one in published}) == len(set(sent))


async def test_a_process_that_was_forgotten_while_the_deployment_was_repartitioned_appends_no_more(
    appender: Appender, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events would be acknowledged, and go where nobody reads any more."""
    await appender.append([step(1).envelope("e1")])
    await redis.set(keys.layout, "partitions=4")
    monkeypatch.setattr("core.log.append.TRUSTED_SECONDS", 0)

    with pytest.raises(LogUnavailableError, match="4"):
        await appender.append([step(2).envelope("e2")])

    assert await redis.xlen(keys.source("workflow:progress", 0).key) == 1


@pytest.mark.parametrize("broken", [b"\xff", b"a\nb", b""])
async def test_an_owner_that_is_no_id_keeps_no_ai_event_out(
    appender: Appender, redis: Redis, keys: Keys, broken: bytes
) -> None:
    event = ai("a").envelope("e1")
    await redis.set(keys.source("workflow:progress", 0).owner(event.topic), broken, ex=60)

    [published] = await appender.append([event])

    assert published.offset == 1
