"""Another number of partitions: the same views, and later events fold as if it had always been so."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError

from core.log.keys import Keys, partition_of
from core.log.layout import Layout, LayoutError, check_layout, load_layout
from core.log.letters import original_of
from core.log.read import read_entries
from core.log.scan import keys_beginning, viewed_topics
from core.log.staging import placed, staged
from core.views.folds import render
from core.views.store import ViewStore
from core.views.user import UserState
from pipai_contracts.ids import Topic
from pipai_contracts.publish import Published
from pipai_contracts.record import BEGINNING
from tests.admin.conftest import Admin
from tests.conftest import wait_until
from tests.core.telling import ai, analysis, notice, step, temporal
from tests.projector.conftest import Deployment, deployed
from tests.projector.fresh_fold import is_projected
from tests.projector.random_run import random_run


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not watch for seconds whether something is appended."""
    monkeypatch.setattr("services.admin.quiet.LOOK_SECONDS", 0.01)


@asynccontextmanager
async def at_work(redis_url: str, key_prefix: str, partitions: int) -> AsyncGenerator[Deployment]:
    """The deployment with so many partitions and a projector; at the end everything is in its views."""
    async with deployed(redis_url, key_prefix, partitions) as deployment, deployment.projecting():
        yield deployment
        await wait_until(lambda: is_projected(deployment.redis, deployment.keys))


async def shown(redis: Redis, keys: Keys) -> dict[Topic, tuple[Any, int, list[Any]]]:
    """Every view as viewers see it, with its position and its feed's events."""
    store = ViewStore(redis, keys, feed_length=5000, ttl=600)
    topics = [topic async for topic in viewed_topics(redis, keys)]
    loaded = await store.load(topics)
    return {
        topic: (
            render(stored.state).model_dump_json(),
            stored.pos,
            [(item.pos, item.event, item.data) for item in await store.read_feed(topic, after=0, count=5000)],
        )
        for topic, stored in loaded.items()
    }


EVERYTHING = [
    step(10, of="a", run="1").by("ada"),
    analysis(40, of="f").by("ada"),
    ai("text", of="a", run="1").by("ada"),
    notice("hello"),
    temporal("running", of="a", run="1").by("ada"),
    step(100, of="b").by("ada"),
    step(5, of="c").by("bob"),
]


@pytest.mark.parametrize("path", [(1, 4, 1), (1, 3), (4, 2, 3)], ids=str)
async def test_views_stay_as_they_are_and_later_events_fold_right(
    redis_url: str, key_prefix: str, admin: Admin, path: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    async with at_work(redis_url, key_prefix, path[0]) as deployment:
        await deployment.publish(*EVERYTHING, *random_run(1, 150))
    before_all = await _shown(redis_url, key_prefix, path[0])
    for old, new in pairwise(path):
        before = await _shown(redis_url, key_prefix, old)
        assert await admin("repartition", "--to", str(new), "--yes", partitions=old) == 0
        assert await _shown(redis_url, key_prefix, new) == before
        capsys.readouterr()
        assert await admin("verify", partitions=new) == 0
        assert f"verified {len(before)}, different 0, unverifiable 0" in capsys.readouterr().out
        async with at_work(redis_url, key_prefix, new) as deployment:
            more = [step(20, of="a", run="1").by("ada"), step(100, of="c").by("bob"), *random_run(new, 50)]
            await deployment.appender.append([one.envelope(f"{new}-{at}") for at, one in enumerate(more)])
        assert await admin("verify", partitions=new) == 0
        assert "different 0, unverifiable 0" in capsys.readouterr().out
    after = await _shown(redis_url, key_prefix, path[-1])
    assert len(after) >= len(before_all)


async def _shown(redis_url: str, key_prefix: str, partitions: int) -> dict[Topic, Any]:
    async with deployed(redis_url, key_prefix, partitions) as deployment:
        return await shown(deployment.redis, deployment.keys)


async def test_nothing_of_the_old_layout_is_left(redis_url: str, key_prefix: str, admin: Admin) -> None:
    async with at_work(redis_url, key_prefix, 4) as deployment:
        await deployment.publish(*EVERYTHING)
    assert await admin("repartition", "--to", "1", "--yes", partitions=4) == 0
    async with deployed(redis_url, key_prefix) as deployment:
        names = [name async for name in keys_beginning(deployment.redis, "")]
        mine = [name for name in names if key_prefix in name]
        assert not [name for name in mine if "{1}" in name or "{2}" in name or "{3}" in name or "staged" in name]
        assert await load_layout(deployment.redis, deployment.keys) == Layout(1)


async def test_a_repeated_event_is_recognised_where_it_stands_now(
    redis_url: str, key_prefix: str, admin: Admin
) -> None:
    async with at_work(redis_url, key_prefix, 1) as deployment:
        await deployment.publish(step(10, of="x"), step(10, of="y"), step(10).by("ada"))
    assert await admin("repartition", "--to", "4", "--yes") == 0
    async with deployed(redis_url, key_prefix, 4) as deployment:
        envelope = step(10).envelope("e2")
        (again,) = await deployment.appender.append([envelope])
        assert again.duplicate
        fields = await stored(deployment, again)
        assert (fields[b"id"], int(fields[b"offset"])) == (b"e2", again.offset)
        (later,) = await deployment.appender.append([step(20).envelope("later")])
        assert (await stored(deployment, later))[b"user"] == b"ada", "the owner is remembered"


async def stored(deployment: Deployment, place: Published) -> dict[bytes, bytes]:
    """The entry where an event was said to stand."""
    rows = cast("list[Any]", await deployment.redis.xrange(place.stream, min=place.stream_id, max=place.stream_id))
    return rows[0][1]


async def test_events_of_one_moment_all_stay(redis_url: str, key_prefix: str, admin: Admin) -> None:
    """Partitions give out the same stream ids; in one stream each event needs its own."""
    async with at_work(redis_url, key_prefix, 4) as deployment:
        for number in range(40):
            source = deployment.keys.source_of("workflow_progress", Topic("default", "workflow", f"w{number}"))
            await deployment.publish(step(number, of=f"w{number}").by("ada"))
            assert source.partition == partition_of(Topic("default", "user", f"w{number}"), 4)
        for partition in range(4):
            source = deployment.source(partition=partition)
            newest = await deployment.redis.incr(source.offset)
            envelope = step(1, of=_of_partition(partition)).by("ada")
            await deployment.redis.xadd(source.key, _fields(envelope, f"same{partition}", newest), id="9999999999999-0")
    before = await _shown(redis_url, key_prefix, 4)
    assert await admin("repartition", "--to", "1", "--yes", partitions=4) == 0
    assert await admin("verify") == 0
    after = await _shown(redis_url, key_prefix, 1)
    assert {topic: view for topic, (view, _, _) in after.items()} == {t: view for t, (view, _, _) in before.items()}
    async with deployed(redis_url, key_prefix) as deployment:
        assert await deployment.redis.xlen(deployment.source().key) == 44
        for partition in range(4):
            topic = Topic("default", "workflow", _of_partition(partition))
            ((_, entry),) = cast("list[Any]", await deployment.redis.xrange(deployment.keys.feed(topic)))
            at = entry[b"stream_id"].decode()
            ((_, event),) = cast("list[Any]", await deployment.redis.xrange(deployment.source().key, min=at, max=at))
            assert event[b"topic"].decode() == topic.name, "the feed says where the event stands now"


async def test_runs_of_one_moment_keep_their_order_where_some_partitions_become_one(
    redis_url: str, key_prefix: str, admin: Admin
) -> None:
    """Three in one new partition must not push each other past the one that goes to another."""
    async with at_work(redis_url, key_prefix, 4) as deployment:
        for partition, numbers in ((0, (0, 1)), (1, (2,)), (2, (0, 1))):
            source = deployment.source(partition=partition)
            for number in numbers:
                newest = await deployment.redis.incr(source.offset)
                envelope = step(1, of=_of_partition(partition, number)).by("ada")
                fields = _fields(envelope, f"{partition}-{number}", newest)
                await deployment.redis.xadd(source.key, fields, id=f"9999999999999-{number}")
    before = await _shown(redis_url, key_prefix, 4)
    assert await admin("repartition", "--to", "2", "--yes", partitions=4) == 0
    assert await admin("verify", partitions=2) == 0
    after = await _shown(redis_url, key_prefix, 2)
    assert {topic: view for topic, (view, _, _) in after.items()} == {t: view for t, (view, _, _) in before.items()}


def _of_partition(partition: int, place: int = 0) -> str:
    names = (f"same {number}" for number in range(1000))
    mine = [name for name in names if partition_of(Topic("default", "workflow", name), 4) == partition]
    return mine[place]


def _fields(told: Any, event_id: str, offset: int) -> dict[Any, Any]:
    envelope = told.envelope(event_id)
    return {
        "id": event_id,
        "type": envelope.event.type,
        "v": 1,
        "tenant": "default",
        "topic": envelope.topic.name,
        "offset": offset,
        "user": "ada",
        "run": "",
        "time": envelope.time,
        "data": envelope.event.model_dump_json(exclude={"type"}, exclude_none=True),
    }


async def test_a_trimmed_log_does_not_pass_for_a_whole_one(
    redis_url: str, key_prefix: str, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    async with at_work(redis_url, key_prefix, 1) as deployment:
        await deployment.publish(step(10), step(20), step(30), step(5, of="later"))
    async with deployed(redis_url, key_prefix) as deployment:
        await deployment.redis.xtrim(deployment.source().key, maxlen=2, approximate=False)
    assert await admin("repartition", "--to", "4", "--yes") == 0
    assert await admin("verify", "workflow", partitions=4) == 0
    assert "verified 1, different 0, unverifiable 1" in capsys.readouterr().out
    assert await admin("repartition", "--to", "1", "--yes", partitions=4) == 0
    assert await admin("verify", "workflow") == 0
    assert "verified 0, different 0, unverifiable 2" in capsys.readouterr().out


async def test_dead_letters_and_their_events_move_too(redis_url: str, key_prefix: str, admin: Admin) -> None:
    async with at_work(redis_url, key_prefix, 1) as deployment:
        await deployment.redis.xadd(deployment.source().key, {"id": "x", "tenant": "default", "topic": "workflow:w"})
        await deployment.publish(step(10))
        await wait_until(deployment.letters)
    assert await admin("repartition", "--to", "4", "--yes") == 0
    async with deployed(redis_url, key_prefix, 4) as deployment:
        source = deployment.keys.source_of("workflow_progress", Topic("default", "workflow", "w"))
        (letter,) = await deployment.letters(source)
        assert letter[b"original:topic"] == b"workflow:w"
        first, *_ = await read_entries(deployment.redis, source, after=BEGINNING, count=1)
        assert str(first.stream_id) == letter[b"stream_id"].decode()


async def test_a_letter_of_very_many_fields_moves_with_its_topic(redis_url: str, key_prefix: str, admin: Admin) -> None:
    wide = {f"field {number}": "" for number in range(2000)}
    async with at_work(redis_url, key_prefix, 1) as deployment:
        for topic in ("workflow:w", "workflow:other"):
            about: dict[Any, Any] = {"tenant": "default", "topic": topic, **wide}
            await deployment.redis.xadd(deployment.source().key, about)
        await wait_until(deployment.letters)
    assert await admin("repartition", "--to", "4", "--yes") == 0
    async with deployed(redis_url, key_prefix, 4) as deployment:
        for name in ("w", "other"):
            source = deployment.keys.source_of("workflow_progress", Topic("default", "workflow", name))
            assert [original_of(letter)[b"topic"] for letter in await deployment.letters(source)] == [
                f"workflow:{name}".encode()
            ]


async def test_it_goes_on_after_a_crash_at_any_moment(
    redis_url: str, key_prefix: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run is cut off some commands later than the one before; no moment loses anything."""
    async with at_work(redis_url, key_prefix, 1) as deployment:
        await deployment.publish(*EVERYTHING)
    before = await _shown(redis_url, key_prefix, 1)
    budget = Budget()
    phases: list[str | None] = [None]
    limit = 0
    while True:
        limit += 7 if phases[-1] in {None, "copying"} else 2
        budget.left = limit
        with monkeypatch.context() as crashing:
            budget.plant(crashing)
            code = await admin("repartition", "--to", "4", "--yes")
        async with deployed(redis_url, key_prefix) as deployment:
            await deployment.redis.delete(deployment.keys.maintenance)
            layout = await load_layout(deployment.redis, deployment.keys)
        if code == 0:
            break
        if (phase := layout.phase if layout else None) != phases[-1]:
            phases.append(phase)
            limit = 0
        if layout is not None and layout.phase == "copying":
            assert await _shown(redis_url, key_prefix, 1) == before
    assert phases[:4] == [None, "copying", "deleting", "placing"]
    assert await _shown(redis_url, key_prefix, 4) == before
    assert await admin("verify", partitions=4) == 0


class Budget:
    """So many commands reach Redis, then none."""

    left = 0

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for client, name in ((Redis, "execute_command"), (Pipeline, "execute")):
            monkeypatch.setattr(client, name, self._counted(getattr(client, name)))

    def _counted(self, original: Any) -> Any:
        async def counted(client: Any, *arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise RedisConnectionError("planted")
            return await original(client, *arguments, **options)

        def execute_command(client: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(client, Pipeline) and arguments:
                return original(client, *arguments, **options)
            return counted(client, *arguments, **options)

        return execute_command


async def test_one_can_go_back_while_nothing_is_deleted(
    redis_url: str, key_prefix: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(redis_url, key_prefix, 1) as deployment:
        await deployment.publish(*EVERYTHING)
    before = await _shown(redis_url, key_prefix, 1)

    async def full(*_: object) -> None:
        raise RedisConnectionError("OOM")

    with monkeypatch.context() as crashing:
        crashing.setattr("services.admin.repartition.check_staged", full)
        assert await admin("repartition", "--to", "4", "--yes") == 2
    assert await admin("repartition", "--to", "3", "--yes") == 2
    async with deployed(redis_url, key_prefix) as deployment:
        with pytest.raises(LayoutError, match="being repartitioned from 1 to 4"):
            await check_layout(deployment.redis, deployment.keys)
        assert await admin("repartition", "--to", "1", "--yes") == 0
        await check_layout(deployment.redis, deployment.keys)
        assert not [name async for name in keys_beginning(deployment.redis, f"staged:{key_prefix}")]
    assert await _shown(redis_url, key_prefix, 1) == before


def forget(state: UserState, *_: object) -> UserState:
    return state.changed(sources={})


async def test_a_copy_that_shows_something_else_is_refused(
    redis_url: str, key_prefix: str, admin: Admin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with at_work(redis_url, key_prefix, 1) as deployment:
        await deployment.publish(*EVERYTHING)
    before = await _shown(redis_url, key_prefix, 1)
    with monkeypatch.context() as broken:
        broken.setattr("services.admin.move_rest.spread", forget)
        assert await admin("repartition", "--to", "4", "--yes") == 2
    assert "is not the same after the copy. Nothing was deleted" in capsys.readouterr().err
    assert await _shown(redis_url, key_prefix, 1) == before
    assert await admin("repartition", "--to", "4", "--yes") == 0


async def test_it_refuses_while_somebody_works(
    redis_url: str, key_prefix: str, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    async with deployed(redis_url, key_prefix) as deployment:
        await check_layout(deployment.redis, deployment.keys)
        await deployment.publish(step(10))
        assert await admin("repartition", "--to", "4", "--yes") == 2
        assert "events that are in no view yet" in capsys.readouterr().err
        seconds, _ = await deployment.redis.time()
        await deployment.redis.zadd(deployment.keys.projectors, {"somebody": (seconds + 5) * 1000})
        await deployment.redis.expire(deployment.keys.projectors, 5)
        assert await admin("repartition", "--to", "4", "--yes") == 2
        assert "projectors are at work (somebody)" in capsys.readouterr().err
        await deployment.redis.delete(deployment.keys.projectors)
        await deployment.redis.hset(deployment.keys.connections, "api", f"3 {seconds}")
        await deployment.redis.expire(deployment.keys.connections, 5)
        assert await admin("repartition", "--to", "4", "--yes") == 2
        assert "api processes are at work" in capsys.readouterr().err
        assert await load_layout(deployment.redis, deployment.keys) == Layout(1)


async def test_without_yes_nothing_is_changed(
    redis_url: str, key_prefix: str, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    async with at_work(redis_url, key_prefix, 1) as deployment:
        await deployment.publish(*EVERYTHING)
    assert await admin("repartition", "--to", "4", "--dry-run") == 0
    assert f"would move {len(EVERYTHING)} events" in capsys.readouterr().out
    assert await admin("repartition", "--to", "4") == 2
    assert await admin("verify") == 0
    assert await admin("repartition", "--to", "1", "--yes") == 0
    assert await admin("verify", partitions=4) == 2
    assert "STREAM_PARTITIONS is 4 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "key", ["p:workflow:progress", "p:view:{0}:default:user:}{", "{p:notifications}:owner:t:user:x}"]
)
def test_a_staged_key_is_in_the_slot_of_its_name(key: str) -> None:
    def tag(name: str) -> str:
        inside, _, rest = name.partition("{")[2].partition("}")
        return inside if inside or rest else name

    assert placed(staged(key)) == key
    assert tag(staged(key)) == (tag(key) if "{" in key else key)
