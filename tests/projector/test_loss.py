"""What Redis lost or a hand trimmed is counted and told, and the rest goes on."""

from typing import cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from core.log.keys import partition_of
from pipai_contracts.events import Progress
from pipai_contracts.ids import Topic
from pipai_contracts.views import WorkflowView
from tests.conftest import wait_until
from tests.core.telling import step
from tests.projector.conftest import Deployment, counted, deployed
from tests.projector.fresh_fold import assert_views_are_a_fresh_fold, is_projected


async def test_deleted_entries_are_counted_and_another_generation_begins(any_deployment: Deployment) -> None:
    before = {source.name: counted("pipai_lost_events_total", source.name) for source in any_deployment.keys.sources()}
    published = await any_deployment.publish(*(step(number) for number in range(6)))
    await any_deployment.redis.xdel(published[0].stream, published[1].stream_id, published[3].stream_id)

    async with any_deployment.projecting():
        await any_deployment.publish(step(50))
        await any_deployment.settled()

    lost = {name: counted("pipai_lost_events_total", name) - count for name, count in before.items()}
    assert sum(lost.values()) == 2
    assert all(generation >= 1 for generation in await any_deployment.generations())


async def test_a_stream_that_was_trimmed_by_hand_goes_on(deployment: Deployment) -> None:
    follower = await deployment.follower()
    before = counted("pipai_lost_events_total")
    await deployment.publish(step(1), step(2))
    await follower.take(await deployment.deliver())
    await deployment.publish(step(3), step(4))
    await deployment.redis.xtrim(deployment.source().key, maxlen=0, approximate=False)
    await deployment.publish(step(50))

    await follower.take(await deployment.deliver())

    view = await deployment.view("workflow", "w")
    assert isinstance(view, WorkflowView)
    assert view.progress == 50
    assert counted("pipai_lost_events_total") - before == 2
    assert await deployment.raised() == [1]
    assert await deployment.pending() == 0


async def test_a_whole_log_is_no_loss(any_deployment: Deployment) -> None:
    async with any_deployment.projecting():
        await any_deployment.publish(*(step(1, of=f"w{number}") for number in range(60)))
        await any_deployment.settled()

    assert set(await any_deployment.generations()) == {0}


async def test_pending_entries_that_are_gone_do_not_stop_the_start(deployment: Deployment) -> None:
    await deployment.follower()
    (first, _) = await deployment.publish(step(1), step(2))
    await deployment.deliver()
    await deployment.redis.xdel(first.stream, first.stream_id)

    async with deployment.projecting():
        await deployment.settled()

    assert await deployment.pending() == 0


@pytest.mark.parametrize("notices_by", ["delivery", "watch"])
async def test_a_redis_that_lost_its_latest_writes_is_projected_from_what_it_still_has(
    deployment: Deployment, notices_by: str
) -> None:
    """As after a failover: log, views and checkpoint are each back at some earlier moment; memory is not."""
    follower = await deployment.follower()
    source = deployment.source()
    topic = step(1).envelope("x").topic
    views = [deployment.keys.view(topic), deployment.keys.feed(topic), deployment.keys.changes(0)]
    views.append(deployment.keys.checkpoint(0))
    regressed = counted("pipai_log_regressions_total")

    await deployment.publish(step(1), step(2))
    await follower.take(await deployment.deliver())
    old_views = await deployment.remember(*views)
    await deployment.publish(step(3), step(4))
    await follower.take(await deployment.deliver())
    old_log = await deployment.remember(source.key, source.offset)
    await deployment.publish(step(5), step(6), step(7))
    await follower.take(await deployment.deliver())
    await deployment.go_back(old_views | old_log)

    if notices_by == "delivery":
        await deployment.publish(step(50))
        await follower.take(await deployment.deliver())
    else:
        assert await follower.oldest_waiting() is not None
        await follower.catch_up()
    assert counted("pipai_log_regressions_total") - regressed == 1
    assert await deployment.raised() == [1]
    await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys)


async def test_a_view_partition_that_went_back_by_itself_is_projected_again(redis_url: str, key_prefix: str) -> None:
    """Its checkpoint went back with it; the views of the other partition have heard of these events already."""
    async with deployed(redis_url, key_prefix, 2) as deployment:
        told = [step(number, of=f"w{number % 6}").by("ada") for number in range(1, 13)]
        async with deployment.projecting():
            await deployment.publish(*told)
            await deployment.settled()
        names = cast("list[bytes]", await deployment.redis.keys(f"{key_prefix}:*:{{0}}*"))
        views = [name.decode() for name in names if name.split(b":")[1] in {b"view", b"feed", b"changes"}]
        old = await deployment.remember(*views, deployment.keys.checkpoint(0))
        async with deployment.projecting():
            await deployment.publish(*told)
            await deployment.settled()
        await deployment.go_back(old)

        async with deployment.projecting():
            assert await deployment.settled() == 7


async def test_a_log_that_went_back_without_its_views_is_counted_and_told(deployment: Deployment) -> None:
    follower = await deployment.follower()
    source = deployment.source()
    regressed = counted("pipai_log_regressions_total")
    await deployment.publish(step(1))
    old_log = await deployment.remember(source.key, source.offset)
    await deployment.publish(step(2), step(3))
    await follower.take(await deployment.deliver())
    await deployment.go_back(old_log)

    await deployment.publish(step(50))
    await follower.take(await deployment.deliver())

    view = await deployment.view("workflow", "w")
    assert isinstance(view, WorkflowView)
    assert view.progress == 50
    assert counted("pipai_log_regressions_total") - regressed == 1
    assert await deployment.raised() == [1]


def _views(deployment: Deployment, *workflow_ids: str) -> list[str]:
    """All that a failover takes back at once: views, feeds, the change feed and the checkpoint; not the log."""
    topics = [step(1, of=name).envelope("x").topic for name in workflow_ids]
    names = [name for topic in topics for name in (deployment.keys.view(topic), deployment.keys.feed(topic))]
    return [*names, deployment.keys.changes(0), deployment.keys.checkpoint(0)]


@pytest.mark.parametrize("noticed_by", ["w", "v", "somebody new", "the watch"])
async def test_views_that_went_back_alone_are_projected_again_from_a_log_that_did_not(
    deployment: Deployment, noticed_by: str
) -> None:
    """What comes next follows the checkpoint in memory: projected onto the old views it would hide what is missing."""
    follower = await deployment.follower()
    regressed, lost = counted("pipai_log_regressions_total"), counted("pipai_lost_events_total")
    await deployment.publish(step(1), step(2), step(1, of="v"))
    await follower.take(await deployment.deliver())
    old = await deployment.remember(*_views(deployment, "w", "v"))
    await deployment.publish(step(3), step(4), step(2, of="v"))
    await follower.take(await deployment.deliver())
    await deployment.go_back(old)

    if noticed_by == "the watch":
        assert await follower.oldest_waiting() is not None
        assert await follower.catch_up() == 3
    else:
        await deployment.publish(step(50, of=noticed_by))
        await follower.take(await deployment.deliver())

    await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys)
    assert await follower.oldest_waiting() is None
    assert counted("pipai_log_regressions_total") - regressed == 1
    assert counted("pipai_lost_events_total") == lost
    assert await deployment.raised() == [1]
    assert await deployment.pending() == 0


async def test_views_that_went_back_under_a_running_projector_are_projected_again(deployment: Deployment) -> None:
    async with deployment.projecting():
        await deployment.publish(step(1), step(2), step(1, of="v"))
        await deployment.settled()
        old = await deployment.remember(*_views(deployment, "w", "v"))
        await deployment.publish(step(3), step(4))
        await deployment.settled()
        await deployment.go_back(old)
        await deployment.publish(step(50, of="v"))
        assert await deployment.settled() == 2

    assert await deployment.raised() == [1]


async def test_a_view_partition_that_went_back_is_noticed_by_an_event_that_is_none_of_its_own(
    redis_url: str, key_prefix: str
) -> None:
    """Nothing is committed there; the checkpoint would pass over what it lost."""
    async with deployed(redis_url, key_prefix, 2) as deployment:
        source = deployment.source(partition=0)
        (owned, free), (user_id, _) = _partitioned(0), _partitioned(1)
        follower = await deployment.follower(source)
        user = Topic("default", "user", user_id)
        lost = [deployment.keys.view(user), deployment.keys.feed(user)]
        lost += [deployment.keys.changes(1), deployment.keys.checkpoint(1)]

        await deployment.publish(step(1, of=owned).by(user_id))
        await follower.take(await deployment.deliver(source))
        old = await deployment.remember(*lost)
        await deployment.publish(step(2, of=owned))
        await follower.take(await deployment.deliver(source))
        await deployment.go_back(old)
        await deployment.publish(step(3, of=free))
        await follower.take(await deployment.deliver(source))

        assert await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys) == 3
        assert await deployment.raised() == [1, 1]


def _partitioned(partition: int) -> list[str]:
    """Two ids whose topics, whatever their kind, are in this one of two partitions."""
    names = (f"id {number}" for number in range(100))
    return [name for name in names if partition_of(Topic("default", "user", name), 2) == partition][:2]


@pytest.mark.parametrize("fails", ["load_all", "raise_generation"])
async def test_a_failure_while_finding_out_does_not_forget_that_views_went_back(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    follower = await deployment.follower()
    await deployment.publish(step(1), step(2))
    await follower.take(await deployment.deliver())
    old = await deployment.remember(*_views(deployment, "w"))
    await deployment.publish(step(3), step(4))
    await follower.take(await deployment.deliver())
    await deployment.go_back(old)

    async def away(*_: object) -> None:
        raise RedisConnectionError("away")

    with monkeypatch.context() as broken:
        broken.setattr(deployment.checkpoints if fails == "load_all" else deployment.store, fails, away)
        with pytest.raises(RedisConnectionError):
            await follower.catch_up()
    assert await deployment.raised() == [0]
    await follower.catch_up()

    assert await deployment.raised() == [1]
    await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys)


@pytest.mark.parametrize("newest", [1, 100])
async def test_deleting_the_newest_changes_by_hand_stops_no_projector(any_deployment: Deployment, newest: int) -> None:
    async def next_for_all(progress: Progress) -> None:
        await any_deployment.publish(*(step(progress, of=f"w{number}") for number in range(6)))
        await wait_until(lambda: is_projected(any_deployment.redis, any_deployment.keys))
        views = [await any_deployment.view("workflow", f"w{number}") for number in range(6)]
        assert [view.progress for view in views if isinstance(view, WorkflowView)] == [progress] * 6

    async with any_deployment.projecting():
        await next_for_all(10)
        await any_deployment.delete_changes(newest)
        await next_for_all(20)
        await any_deployment.delete_changes(newest)
        await any_deployment.store.raise_generation(0)
        await next_for_all(30)
    await any_deployment.delete_changes(newest)
    async with any_deployment.projecting():  # which knows of no change
        await next_for_all(40)
