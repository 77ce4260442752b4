"""A new master is noticed, and whether it lacks what was written last."""

from itertools import count
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from core.log.keys import Keys
from core.views import failover as failover_module
from core.views.errors import ViewsWentBackError
from core.views.failover import Failover
from core.views.project import fold_batch
from core.views.store import ViewStore
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING
from tests.core.telling import records, step

_FOLDS = count(1)
WORKFLOW = Topic("default", "workflow", "w")


class Master:
    """Who serves the views, as INFO tells it; a test can let it change."""

    def __init__(self) -> None:
        self.history = "a" * 40
        self.refuses = False

    async def answer(self, _: Redis, key: str, *command: str) -> dict[str, Any]:
        assert key.startswith("t")
        assert command == ("INFO", "replication")
        if self.refuses:
            raise NoPermissionError("this user has no permissions to run the 'info' command")
        return {"role": "master", "master_replid": self.history}


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> Master:
    master = Master()
    monkeypatch.setattr(failover_module, "ask_holder", master.answer)
    return master


@pytest.fixture
def store(redis: Redis, keys: Keys) -> ViewStore:
    return ViewStore(redis, keys, feed_length=100, ttl=60)


@pytest.fixture
async def watch(redis: Redis, keys: Keys, store: ViewStore, master: Master) -> Failover:
    """A projector's watch over the store it writes to; it has looked once."""
    _ = master
    watch = Failover(redis, keys, store)
    assert await watch.look(0) is None
    return watch


async def write(store: ViewStore, number: int, keys: Keys) -> None:
    """Commit one event of the workflow."""
    source = keys.source("workflow:progress", 0)
    folded = fold_batch(records([step(number)], start=number), await store.load([WORKFLOW]), version=f"v{next(_FOLDS)}")
    assert all(await store.commit(0, await store.generation(0), folded.updates, source=source, since=BEGINNING))


async def go_back(redis: Redis, keys: Keys, store: ViewStore, number: int) -> None:
    """Write an event and lose it again, as a replica that becomes master before it has it."""
    names = [keys.view(WORKFLOW), keys.feed(WORKFLOW), keys.changes(0)]
    dumps = [await redis.dump(name) for name in names]
    await write(store, number, keys)
    for name, dump in zip(names, dumps, strict=True):
        assert dump is not None
        await redis.restore(name, 0 if name == keys.changes(0) else 60_000, dump, replace=True)


async def raised(redis: Redis, keys: Keys) -> int:
    """How often the generation was raised, as the change feed tells."""
    rows = cast("list[Any]", await redis.xrange(keys.changes(0)))
    return sum(b"generation" in fields for _, fields in rows)


async def test_a_restart_after_which_the_newest_change_stands_is_no_loss(
    watch: Failover, store: ViewStore, keys: Keys, master: Master
) -> None:
    await write(store, 1, keys)
    master.history = "b" * 40
    assert await watch.look(0) is None
    assert await watch.look(0) is None
    assert await store.generation(0) == 0


async def test_a_new_master_without_the_newest_change_begins_another_generation(
    watch: Failover, store: ViewStore, keys: Keys, master: Master, redis: Redis
) -> None:
    await write(store, 1, keys)
    await go_back(redis, keys, store, 2)
    master.history = "b" * 40
    assert await watch.look(0) == "lost"
    assert await watch.look(0) is None
    assert await raised(redis, keys) == 1


async def test_nothing_is_written_where_something_was_lost_before_that_is_told(
    watch: Failover, store: ViewStore, keys: Keys, master: Master, redis: Redis
) -> None:
    """Another event would stand at the number and the position of the lost one."""
    await write(store, 1, keys)
    await go_back(redis, keys, store, 2)
    master.history = "b" * 40
    with pytest.raises(ViewsWentBackError):
        await write(store, 3, keys)
    assert await watch.look(0) == "lost"
    assert await raised(redis, keys) == 1


@pytest.mark.usefixtures("watch")
async def test_a_projector_that_starts_after_the_failover_notices_too(
    store: ViewStore, keys: Keys, master: Master, redis: Redis
) -> None:
    """It cannot know what was lost, and what it writes itself proves nothing."""
    await write(store, 1, keys)
    master.history = "b" * 40
    other = ViewStore(redis, keys, feed_length=100, ttl=60)
    await write(other, 2, keys)
    assert await Failover(redis, keys, other).look(0) == "unknown"
    assert await raised(redis, keys) == 1


@pytest.mark.usefixtures("watch")
async def test_a_projector_that_starts_with_the_same_master_has_nothing_to_fear(
    store: ViewStore, keys: Keys, redis: Redis
) -> None:
    await write(store, 1, keys)
    assert await Failover(redis, keys, ViewStore(redis, keys, feed_length=100, ttl=60)).look(0) is None


async def test_after_a_farewell_a_restart_of_everything_is_no_loss(
    watch: Failover, store: ViewStore, keys: Keys, master: Master, redis: Redis
) -> None:
    await write(store, 1, keys)
    await watch.leave(0)
    master.history = "b" * 40
    assert await Failover(redis, keys, ViewStore(redis, keys, feed_length=100, ttl=60)).look(0) is None
    assert await store.generation(0) == 0


async def test_a_farewell_does_not_speak_for_a_projector_that_took_over(
    watch: Failover, store: ViewStore, keys: Keys, master: Master, redis: Redis
) -> None:
    await write(store, 1, keys)
    assert await Failover(redis, keys, ViewStore(redis, keys, feed_length=100, ttl=60)).look(0) is None
    await watch.leave(0)
    master.history = "b" * 40
    assert await Failover(redis, keys, ViewStore(redis, keys, feed_length=100, ttl=60)).look(0) == "unknown"


async def test_an_idle_projector_knows_the_newest_change_of_another(
    store: ViewStore, keys: Keys, master: Master, redis: Redis
) -> None:
    await write(store, 1, keys)
    watch = Failover(redis, keys, ViewStore(redis, keys, feed_length=100, ttl=60))
    assert await watch.look(0) is None
    master.history = "b" * 40
    assert await watch.look(0) is None
    assert await store.generation(0) == 0


async def test_a_redis_that_hides_its_replication_is_left_alone(
    redis: Redis, keys: Keys, store: ViewStore, master: Master
) -> None:
    master.refuses = True
    watch = Failover(redis, keys, store)
    async with watch.watching(0, lambda _: pytest.fail("nothing can be known")):
        pass
    assert await watch.look(0) is None
    assert await redis.get(keys.history(0)) is None
