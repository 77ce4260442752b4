"""What the system rests on is the same on every Redis it can be given."""

from typing import Any, cast

import pytest
from redis.exceptions import ResponseError

from core.log.dead import DeadLetters
from core.log.entry import Entry
from core.log.keys import partition_of
from core.log.letters import Letters
from core.log.requests import Requests
from core.runtime.memory import EvictingRedisError, refuse_eviction
from core.runtime.redis import ask_holder, command_client
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId
from services.api.settings import ApiSettings
from tests.api.conftest import producing, projecting, serving
from tests.conftest import wait_until
from tests.core.telling import ai, analysis, notice, step, temporal
from tests.projector.conftest import Deployment
from tests.shapes.conftest import settings_of
from tests.shapes.servers import Shape, connected

WORKFLOW = Topic("default", "workflow", "w")


async def test_an_event_is_appended_once_and_its_repeat_gets_the_first_answer(deployment: Deployment) -> None:
    envelopes = [step(1).by("ada").envelope("one"), step(2).by("eve").envelope("two"), notice("hi").envelope("three")]
    first = await deployment.appender.append(envelopes)
    again = await deployment.appender.append(envelopes)

    assert [one.duplicate for one in first] == [False] * 3
    assert again == [one.model_copy(update={"duplicate": True}) for one in first]
    entries: Any = await deployment.redis.xrange(first[0].stream)
    assert [fields[b"user"] for _, fields in entries] == [b"ada", b"ada"]


async def test_a_key_goes_with_the_body_it_came_with(deployment: Deployment) -> None:
    requests = Requests(deployment.redis, deployment.keys, idempotency_window=60)

    told = [
        await requests.bind(scope, "k", body) for scope, body in (("a", b"1"), ("a", b"2"), ("a", b"1"), ("b", b"2"))
    ]
    assert told == [True, False, True, True]


async def test_an_ai_event_goes_to_who_owns_its_workflow_though_that_stands_in_another_slot(
    deployment: Deployment,
) -> None:
    await deployment.publish(step(1).by("ada"))
    (published,) = await deployment.publish(ai("word"))
    ((_, fields),) = cast("Any", await deployment.redis.xrange(published.stream))
    assert fields[b"user"] == b"ada"


async def test_every_view_is_a_fresh_fold_of_the_log(deployment: Deployment) -> None:
    """All sources at once, in batches and one by one, with two projectors that know nothing of each other."""
    async with deployment.projecting(), deployment.projecting():
        for number in range(6):
            told = [step(10 * number, of=f"w{one}").by(f"u{one % 3}") for one in range(8)]
            told += [analysis(10 * number, of=f"f{one}").by("ada") for one in range(4)]
            told += [ai("word ", of="w1"), notice(f"n{number}"), temporal("running", of="w2")]
            await deployment.publish(*told)
        assert await deployment.settled() == 8 + 4 + 4
        await wait_until(lambda: _nothing_is_pending(deployment))

    assert await deployment.generations() == [0] * deployment.keys.partitions


async def _nothing_is_pending(deployment: Deployment) -> bool:
    try:
        return not any([await deployment.pending(source) for source in deployment.keys.sources()])
    except ResponseError as error:
        if "NOGROUP" not in str(error):
            raise
        return False  # of a source without events, which no projector has come to yet


async def test_a_feed_is_read_from_a_position_and_a_raised_generation_renames_it(deployment: Deployment) -> None:
    async with deployment.projecting():
        await deployment.publish(step(1), step(2), step(3))
        await deployment.settled()
    feed = await deployment.store.read_feed(WORKFLOW, after=1, count=10)
    assert [(item.pos, item.event) for item in feed] == [(2, "workflow_progress"), (3, "workflow_progress")]

    partition = partition_of(WORKFLOW, deployment.keys.partitions)
    before = (await deployment.store.snapshot(WORKFLOW, partition)).cursor
    await deployment.store.raise_generation(partition)
    after = (await deployment.store.snapshot(WORKFLOW, partition)).cursor
    assert (before.pos, after.pos) == (3, 3)
    assert before.epoch != after.epoch


async def test_a_source_is_trimmed_below_its_checkpoint(deployment: Deployment) -> None:
    async with deployment.projecting(stream_max_entries=5):
        for number in range(3):
            await deployment.publish(*(step(number) for _ in range(110)))
            (published,) = await deployment.publish(step(number))
            await wait_until(lambda: _shorter(deployment, published.stream))  # noqa: B023 - it is waited for


async def _shorter(deployment: Deployment, stream: str) -> bool:
    return int(await deployment.redis.xlen(stream)) <= 111


async def test_what_no_view_can_take_is_parked(deployment: Deployment) -> None:
    async with deployment.projecting():
        (published,) = await deployment.publish(step(1))
        source = next(source for source in deployment.keys.sources() if source.key == published.stream)
        await deployment.redis.xadd(source.key, {"hello": "world"})
        await deployment.publish(step(2))
        assert await deployment.settled() == 1
    (letter,) = await deployment.letters(source)
    assert letter[b"original:hello"] == b"world"


async def test_a_viewer_is_told_what_happens(shape: Shape, prefix: str) -> None:
    async with (
        serving(ApiSettings(**settings_of(shape, prefix))) as api,
        producing(shape.address, prefix) as producer,
        projecting(shape.address, prefix),
    ):
        await wait_until(api.ready)
        assert (await api.health())["services"]["redis"] == "healthy"
        async with api.watching("/stream/workflow/w") as stream:
            await stream.next()
            await producer.progress("w", 42)
            event = await stream.next()
        assert (event.event, event.pos, event.data["progress"]) == ("workflow_progress", 1, 42)


async def test_a_redis_that_would_throw_events_away_is_refused_whichever_node_it_is(shape: Shape) -> None:
    redis = command_client(shape.address)
    with connected(shape.masters()[-1], shape.password) as node:
        try:
            await refuse_eviction(redis)
            node.config_set("maxmemory-policy", "allkeys-lru")
            node.config_set("maxmemory", "1gb")
            with pytest.raises(EvictingRedisError, match="allkeys-lru"):
                await refuse_eviction(redis)
        finally:
            node.config_set("maxmemory", "0")
            node.config_set("maxmemory-policy", "noeviction")
            await redis.aclose()


async def test_dead_letters_are_counted_and_their_age_is_by_the_clock_of_who_keeps_them(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def ask(client: Any, key: str, *command: str) -> Any:
        asked.append(key)
        return await ask_holder(client, key, *command)

    monkeypatch.setattr("core.log.letters.ask_holder", ask)
    letters = Letters(deployment.redis, deployment.keys)
    assert {(one.count, one.oldest) for one in await letters.census()} == {(0, 0)}
    assert asked == []

    (published,) = await deployment.publish(notice("hello", of="ada"))
    source = next(one for one in deployment.keys.sources() if one.key == published.stream)
    unfit = Entry(StreamId.parse(published.stream_id), {b"id": b"one"})
    await DeadLetters(deployment.redis, deployment.keys).park(source, unfit, ValueError("bad"))
    counted = {one.source: one for one in await letters.census()}

    assert (counted[source].count, sum(one.count for one in counted.values())) == (1, 1)
    assert 0 <= counted[source].oldest < 60
    assert asked == [deployment.keys.dead(source)]


async def test_an_event_below_the_checkpoint_of_a_log_that_went_back_is_projected(deployment: Deployment) -> None:
    """A failover lost the newest event, and the clock of the new master is behind."""
    (first,) = await deployment.publish(step(1).by("ada"))
    source = next(one for one in deployment.keys.sources() if one.key == first.stream)
    follower = await deployment.follower(source)
    await follower.catch_up()
    old = await deployment.remember(source.key, source.offset)
    ahead = StreamId.parse(first.stream_id).milliseconds + 60_000
    await cast("Any", deployment.redis).execute_command("XSETID", source.key, f"{ahead}-0")
    await deployment.publish(step(2).by("ada"))
    await follower.catch_up()
    await deployment.go_back(old)

    await deployment.publish(step(3).by("ada"))
    await follower.catch_up()

    feed = await deployment.store.read_feed(WORKFLOW, after=0, count=10)
    assert [b'"progress":%d' % number in item.data for number, item in enumerate(feed, start=1)] == [True] * 3
