"""How views are committed, on a real Redis: together, once, and only onto what they were folded on."""

import json
from itertools import count
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from core.log.checkpoint import NOTHING, Checkpoint
from core.log.keys import Keys
from core.views import project
from core.views.checkpoints import Checkpoints
from core.views.errors import GenerationChangedError, ViewsWentBackError
from core.views.folds import State, evolve
from core.views.project import fold_batch, topics_in
from core.views.store import ViewStore
from core.views.stored import Stored, Update, unheard_of
from core.views.user import UserState
from pipai_contracts.cursor import START, Cursor
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, Record, StreamId
from pipai_contracts.views import RunView
from tests.conftest import wait_until
from tests.core.telling import Told, ai, notice, records, step

TTL = 600
W, V = Topic("default", "workflow", "w"), Topic("default", "workflow", "v")
ADA = Topic("default", "user", "ada")
SOURCE = Keys().source("workflow:progress", 0)


@pytest.fixture
def store(redis: Redis, keys: Keys) -> ViewStore:
    return ViewStore(redis, keys, feed_length=1000, ttl=TTL)


_FOLDS = count(1)


async def _updates(store: ViewStore, *told: Told, start: int = 1) -> list[Update]:
    """The updates of a batch, folded on what is stored now, under a version of their own."""
    batch = records(told, start=start)
    return fold_batch(batch, await store.load(topics_in(batch)), version=f"v{next(_FOLDS)}").updates


async def _commit(store: ViewStore, generation: int, updates: list[Update], since: StreamId = BEGINNING) -> list[bool]:
    """Write the updates as made from events that follow ``since``."""
    sizes = await store.commit(0, generation, updates, source=SOURCE, since=since)
    return [size > 0 for size in sizes]


async def _tell(store: ViewStore, *told: Told, start: int = 1) -> None:
    assert all(await _commit(store, await store.generation(0), await _updates(store, *told, start=start)))


async def _changes(redis: Redis, keys: Keys) -> list[tuple[str, dict[bytes, bytes]]]:
    rows = cast("list[Any]", await redis.xrange(keys.changes(0)))
    return [(change_id.decode(), fields) for change_id, fields in rows]


async def _consecutive(redis: Redis, keys: Keys) -> list[int]:
    """The numbers of the changes, which have no hole."""
    numbers = [StreamId.parse(change_id).milliseconds for change_id, _ in await _changes(redis, keys)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return numbers


def _progress(stored: Stored) -> float:
    assert isinstance(stored.state, RunView)
    return stored.state.progress


async def _positions(store: ViewStore, topic: Topic) -> list[int]:
    return [item.pos for item in await store.read_feed(topic, after=0, count=1000)]


async def test_view_feed_and_changes_are_written_together(store: ViewStore, redis: Redis, keys: Keys) -> None:
    await _tell(store, step(10, run="r"), step(20, of="v"), step(30))

    loaded = await store.load([W, V])
    assert [(one.pos, one.first, _progress(one)) for one in loaded.values()] == [(2, "1-0", 30), (1, "2-0", 20)]
    assert {name: str(heard) for name, heard in loaded[W].heard.items()} == {"workflow:progress": "3-0"}
    feed = await store.read_feed(W, after=0, count=10)
    assert [(item.pos, item.event) for item in feed] == [(1, "workflow_progress"), (2, "workflow_progress")]
    assert b'"run_id":"r","timestamp":"2025-01-01T00:00:01.000Z"}' in feed[0].data
    epoch = (await store.snapshot(W, 0)).cursor.epoch
    changes = await _changes(redis, keys)
    assert len(await _consecutive(redis, keys)) == 3
    assert changes[0][1] == {
        b"topic": b"default:workflow:w",
        b"epoch": epoch.encode(),
        b"pos": b"1",
        b"event": b"workflow_progress",
        b"data": feed[0].data,
        b"stream_id": b"1-0",
    }


async def test_a_view_that_moved_is_left_alone_and_the_others_are_written(store: ViewStore) -> None:
    await _tell(store, step(10), step(10, of="v"))
    mine = await _updates(store, step(20), step(20, of="v"), start=3)
    await _tell(store, step(15), start=3)

    assert await _commit(store, 0, mine) == [False, True]
    loaded = await store.load([W, V])
    assert [(_progress(one), one.pos) for one in loaded.values()] == [(15, 2), (20, 2)]
    assert loaded[V].version == mine[1].after.version
    assert await _positions(store, W) == await _positions(store, V) == [1, 2]


async def test_nothing_is_written_under_another_generation(store: ViewStore, redis: Redis, keys: Keys) -> None:
    mine = await _updates(store, step(10))
    await store.raise_generation(0)

    with pytest.raises(GenerationChangedError):
        await _commit(store, 0, mine)

    assert (await store.load([W]))[W].version == ""
    assert await _positions(store, W) == []
    assert len(await _changes(redis, keys)) == 1


async def test_nothing_is_written_to_views_that_went_back(store: ViewStore, redis: Redis, keys: Keys) -> None:
    """Their own checkpoint is older than the one the events follow: what lies between would be missing for ever."""
    checkpoints = Checkpoints(redis, keys)
    await checkpoints.advance(SOURCE, Checkpoint(3, StreamId(5, 3)), since=NOTHING)
    mine = await _updates(store, step(10))

    for newer in (StreamId(5, 4), StreamId(6, 0), StreamId(50, 0)):
        with pytest.raises(ViewsWentBackError):
            await _commit(store, 0, mine, newer)
    assert (await store.load([W]))[W].version == ""
    assert await _positions(store, W) == []
    assert await _changes(redis, keys) == []

    assert await _commit(store, 0, mine, StreamId(5, 3)) == [True]


async def test_views_without_a_checkpoint_went_back_when_events_follow_one(store: ViewStore) -> None:
    with pytest.raises(ViewsWentBackError):
        await _commit(store, 0, await _updates(store, step(10)), StreamId(0, 1))


async def test_positions_and_change_ids_count_on_from_commit_to_commit(
    store: ViewStore, redis: Redis, keys: Keys
) -> None:
    for number in range(5):
        await _tell(store, step(1), step(2, of="v"), ai("x"), start=1 + 3 * number)

    assert await _positions(store, W) == list(range(1, 11))
    assert await _positions(store, V) == list(range(1, 6))
    assert len(await _consecutive(redis, keys)) == 15


async def test_a_feed_has_all_of_a_notification_that_its_view_cuts(store: ViewStore) -> None:
    message, metadata = "m" * 100_000, {"m": "y" * 100_000}
    await _tell(store, notice("x", metadata=metadata, message=message))

    (item,) = await store.read_feed(ADA, after=0, count=10)
    told = json.loads(item.data)
    assert (told["message"], told["metadata"]) == (message, metadata)


@pytest.mark.parametrize("begun_by", ["commit", "generation"])
async def test_a_change_feed_that_begins_anew_is_numbered_beyond_the_old_one(
    store: ViewStore, redis: Redis, keys: Keys, begun_by: str
) -> None:
    """Grown as long as the old one it would pass for that, and its readers would miss how it got there."""
    await _tell(store, *(step(1) for _ in range(20)))
    old = await _consecutive(redis, keys)
    await redis.delete(keys.changes(0))

    store.newest.forget(0)
    if begun_by == "generation":
        await store.raise_generation(0)
    await _tell(store, step(1), start=30)

    assert min(await _consecutive(redis, keys)) > max(old)


async def test_a_feed_is_read_between_two_positions(store: ViewStore) -> None:
    await _tell(store, *(step(number) for number in range(10)))

    assert [item.pos for item in await store.read_feed(W, after=3, upto=7, count=10)] == [4, 5, 6, 7]
    assert [item.pos for item in await store.read_feed(W, after=3, count=2)] == [4, 5]


async def test_a_feed_keeps_about_its_length(redis: Redis, keys: Keys) -> None:
    store = ViewStore(redis, keys, feed_length=100, ttl=TTL)
    for number in range(5):
        await _tell(store, *(step(1) for _ in range(100)), start=1 + 100 * number)

    positions = await _positions(store, W)
    assert 100 <= len(positions) <= 200
    assert positions[-1] == 500


async def test_views_and_feeds_expire_after_their_last_event(store: ViewStore, redis: Redis, keys: Keys) -> None:
    await _tell(store, step(10))

    for key in (keys.view(W), keys.feed(W)):
        assert TTL - 5 < await redis.ttl(key) <= TTL


async def test_a_view_deleted_by_hand_begins_anew_in_another_epoch(store: ViewStore, redis: Redis, keys: Keys) -> None:
    await _tell(store, step(10), step(20))
    before = (await store.snapshot(W, 0)).cursor
    await redis.delete(keys.view(W))

    await _tell(store, step(30), start=3)

    after = (await store.snapshot(W, 0)).cursor
    assert (after.pos, await _positions(store, W)) == (1, [1])
    assert after.epoch != before.epoch


async def test_a_topic_nobody_published_to_has_no_view(store: ViewStore) -> None:
    snapshot = await store.snapshot(W, 0)

    assert (snapshot.cursor, snapshot.state) == (START, None)


async def test_another_generation_is_told_in_the_change_feed_and_changes_every_epoch(
    store: ViewStore, redis: Redis, keys: Keys
) -> None:
    await _tell(store, step(10))
    before = (await store.snapshot(W, 0)).cursor
    (first,) = await _consecutive(redis, keys)

    generation = await store.raise_generation(0)
    assert generation == await store.generation(0)

    after = (await store.snapshot(W, 0)).cursor
    assert after == Cursor(after.epoch, before.pos)
    assert after.epoch != before.epoch
    assert (await _changes(redis, keys))[-1] == (f"{first + 1}-0", {b"generation": str(generation).encode()})
    await _tell(store, step(20), start=2)
    assert (await _changes(redis, keys))[-1][1][b"epoch"] == after.epoch.encode()


async def test_a_generation_that_was_lost_is_never_given_to_another_history(
    store: ViewStore, redis: Redis, keys: Keys
) -> None:
    """As after two failovers, of which the second lost that the first was told of."""
    await _tell(store, step(10))
    lost = await store.raise_generation(0)
    cursor = (await store.snapshot(W, 0)).cursor
    await redis.delete(keys.generation(0))
    seconds, micros = await redis.time()
    await wait_until(lambda: _is_later(redis, seconds * 1000 + micros // 1000))

    assert await store.raise_generation(0) > lost
    assert (await store.snapshot(W, 0)).cursor.epoch != cursor.epoch


async def _is_later(redis: Redis, milliseconds: int) -> bool:
    seconds, micros = await redis.time()
    return seconds * 1000 + micros // 1000 > milliseconds


async def test_a_generation_rises_also_when_the_clock_is_behind(store: ViewStore, redis: Redis, keys: Keys) -> None:
    await redis.set(keys.generation(0), 4_000_000_000_000)
    assert await store.raise_generation(0) == 4_000_000_000_001


async def test_an_event_that_was_heard_is_not_folded_again(store: ViewStore) -> None:
    await _tell(store, step(10), step(20))

    again = await _updates(store, step(10), step(20), step(30))

    assert [len(update.entries) for update in again] == [1]
    assert [_progress(update.after) for update in again] == [30]


async def test_a_late_event_is_marked_in_the_feed(store: ViewStore) -> None:
    await _tell(store, step(100), step(50))

    first, second = await store.read_feed(W, after=0, count=10)
    assert b'"late"' not in first.data
    assert second.data.endswith(b',"late":true}')


async def test_a_view_that_cannot_be_read_is_left_out(store: ViewStore, redis: Redis, keys: Keys) -> None:
    """The caller parks what belongs to it; one broken view must not stop the others."""
    await _tell(store, step(10), step(20, of="v"))
    await redis.hset(keys.view(W), "state", "{}")

    loaded = await store.load([W, V])
    assert list(loaded) == [V]
    folded = fold_batch(records([step(30), step(40, of="v")], start=3), loaded, version="x")
    assert [update.topic for update in folded.updates] == [V]
    assert [str(error) for _, error in folded.failed] == ["the stored view of default:workflow:w cannot be read"]


async def test_an_event_that_fails_in_one_view_is_in_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fragile(state: State, record: Record) -> State:
        if isinstance(state, UserState) and b'"progress":13' in record.data:
            raise ArithmeticError("unlucky")
        return evolve(state, record)

    monkeypatch.setattr(project, "evolve", fragile)
    batch = records([step(10).by("ada"), step(13).by("ada"), step(20).by("ada")])

    folded = fold_batch(batch, {topic: unheard_of(topic) for topic in topics_in(batch)}, version="x")

    assert [(str(record.stream_id), str(error)) for record, error in folded.failed] == [("2-0", "unlucky")]
    assert [len(update.entries) for update in folded.updates] == [2, 2]
