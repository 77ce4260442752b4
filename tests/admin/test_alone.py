"""Two people run commands on one deployment at once: the second is refused, or harmless."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from core.log.layout import Layout, change_layout
from core.log.scan import keys_beginning
from core.views.rebuild import Fresh
from core.views.replace import ViewReplacer
from core.views.topic_folds import TopicFolds
from pipai_contracts.ids import Topic
from services.admin import place
from services.admin.alone import alone
from services.admin.command import RefusedError
from services.admin.compare import Comparer
from tests.admin.conftest import Admin
from tests.admin.test_verify_and_rebuild import plant
from tests.core.telling import step
from tests.projector.conftest import Deployment
from tests.projector.fresh_fold import assert_views_are_a_fresh_fold

W = Topic("default", "workflow", "w")
CHANGING = [("rebuild",), ("repartition", "--to", "4", "--yes")]
LOOKING = [("verify",), ("rebuild", "--dry-run")]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.admin.quiet.LOOK_SECONDS", 0.01)


@pytest.fixture
async def projected(deployment: Deployment) -> Deployment:
    """A deployment that stands still, with a view that is wrong."""
    async with deployment.projecting():
        await deployment.publish(*(step(number % 100) for number in range(250)))
        await deployment.settled()
    await plant(deployment, "workflow", "w", progress=3)
    return deployment


@pytest.mark.parametrize("command", CHANGING, ids=lambda command: command[0])
@pytest.mark.parametrize("other", ["rebuild", "repartition"])
async def test_what_changes_something_is_refused_while_another_does(
    projected: Deployment, admin: Admin, command: tuple[str, ...], other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with alone(projected.redis, projected.keys, other):
        assert await admin(*command) == 2
        assert f"{other} is at work on this deployment" in capsys.readouterr().err
        assert [await admin(*looking) for looking in LOOKING] == [1, 0]
    assert await admin(*command) == 0


async def test_a_rebuild_keeps_others_out_for_as_long_as_it_takes(
    projected: Deployment, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare, meanwhile = Comparer.compare, list[int]()

    async def and_a_second(comparer: Comparer, topic: Topic) -> Any:
        if not meanwhile:
            meanwhile.append(await admin("rebuild"))
        return await compare(comparer, topic)

    monkeypatch.setattr(Comparer, "compare", and_a_second)
    assert await admin("rebuild") == 0
    assert meanwhile == [2]
    assert not await projected.redis.exists(projected.keys.maintenance)


async def test_two_who_replace_a_view_at_once_leave_one_whole_view(projected: Deployment) -> None:
    """As when a rebuild was held up for so long that another could begin."""
    settings = projected.settings
    rivals = [
        ViewReplacer(projected.redis, projected.keys, feed_length=settings.stream_max_entries, ttl=settings.view_ttl)
        for _ in range(3)
    ]
    live = await rivals[0].look(W)
    fresh = await _folded(projected)

    async def replace(rival: ViewReplacer) -> bool:
        async with rival.replacing(W) as replacement:
            return await replacement.put(live, fresh)

    assert sorted(await asyncio.gather(*map(replace, rivals))) == [False, False, True]
    feed = await projected.store.read_feed(W, after=0, count=1000)
    assert [item.pos for item in feed] == list(range(1, 251))
    await assert_views_are_a_fresh_fold(projected.redis, projected.keys)
    assert not [key async for key in keys_beginning(projected.redis, f"{projected.keys.prefix}:staged-feed")]


async def _folded(deployment: Deployment) -> Fresh:
    index = TopicFolds(deployment.redis, deployment.keys, None, lambda _: True, feed_length=5000)
    await index.read_projected()
    return await index.fold(
        W, {deployment.source().name: (await deployment.checkpoints.load(deployment.source())).stream_id}
    )


async def test_a_repartition_that_lost_its_right_deletes_nothing(
    projected: Deployment, admin: Admin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was held up for a minute after its copy; somebody else began one."""
    check = place.check_staged

    async def and_then_sleep(redis: Redis, *arguments: Any) -> None:
        await check(redis, *arguments)
        await redis.set(projected.keys.maintenance, "repartition another", ex=60)

    monkeypatch.setattr("services.admin.repartition.check_staged", and_then_sleep)
    assert await admin("repartition", "--to", "4", "--yes") == 2
    assert "another command may be at work: run this again" in capsys.readouterr().err
    assert await projected.redis.get(projected.keys.maintenance) == b"repartition another", "it is not taken away"
    assert (await projected.view("workflow", "w")).model_dump()["progress"] == 3
    assert await projected.redis.xlen(projected.source().key) == 250
    await projected.redis.delete(projected.keys.maintenance)
    assert await admin("repartition", "--to", "1", "--yes") == 0


@pytest.mark.parametrize("step_of", [place.delete_old, place.place_staged], ids=lambda one: one.__name__)
async def test_each_page_of_deleting_and_placing_asks_first(projected: Deployment, step_of: Any) -> None:
    await projected.redis.set(f"staged:{projected.keys.prefix}:x", "x", ex=600)

    async def no_more() -> None:
        raise RefusedError("another is at work")

    with pytest.raises(RefusedError):
        await step_of(projected.redis, projected.keys.prefix, no_more, place.Progress("keys"))
    assert await projected.redis.xlen(projected.source().key) == 250
    assert await projected.redis.exists(f"staged:{projected.keys.prefix}:x")


@pytest.mark.usefixtures("projected")
async def test_what_was_found_while_a_repartition_began_does_not_count(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compare = Comparer.compare

    async def and_it_begins(comparer: Comparer, topic: Topic) -> Any:
        keys, redis = comparer._keys, comparer._redis  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        await change_layout(redis, keys, Layout(1), Layout(1, 4, "deleting"))
        return await compare(comparer, topic)

    monkeypatch.setattr(Comparer, "compare", and_it_begins)
    assert await admin("verify") == 2
    assert "is being repartitioned from 1 to 4" in capsys.readouterr().err
