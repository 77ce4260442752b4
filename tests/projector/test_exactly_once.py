"""Each event once in each view, whatever is delivered twice, not at all, or by another way."""

from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from core.log.checkpoint import Checkpoint
from core.log.keys import Source
from core.views.checkpoints import Checkpoints
from tests.conftest import wait_until
from tests.core.telling import analysis, step
from tests.projector.conftest import Deployment, counted
from tests.projector.fresh_fold import assert_views_are_a_fresh_fold


async def test_a_batch_delivered_twice_is_projected_once(deployment: Deployment) -> None:
    follower = await deployment.follower()
    await deployment.publish(step(1).by("ada"), step(2), step(3, of="v").by("ada"))
    entries = await deployment.deliver()

    await follower.take(entries)
    await follower.take(entries)
    await (await deployment.follower()).take(entries)

    assert await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys) == 3
    assert await deployment.pending() == 0


async def test_a_crash_between_commit_and_checkpoint_repeats_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Checkpoints.advance
    crashes = ["once"]

    async def crashing(self: Checkpoints, source: Source, checkpoint: Checkpoint, **more: Any) -> None:
        if crashes:
            crashes.pop()
            raise RedisConnectionError("gone")
        await advance(self, source, checkpoint, **more)

    monkeypatch.setattr(Checkpoints, "advance", crashing)
    async with deployment.projecting():
        await deployment.publish(step(1).by("ada"), step(2).by("ada"))
        await deployment.settled()
        await deployment.publish(step(3).by("ada"))
        await deployment.settled()

    assert crashes == []
    assert await deployment.pending() == 0


async def test_a_new_projector_repeats_nothing_that_was_committed_without_a_checkpoint(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: object, **__: object) -> None:
        raise RedisConnectionError("gone")

    await deployment.publish(step(1).by("ada"), step(2).by("ada"))
    with monkeypatch.context() as broken:
        broken.setattr(Checkpoints, "advance", crash)
        with pytest.raises(RedisConnectionError):
            await (await deployment.follower()).catch_up()

    async with deployment.projecting():
        assert await deployment.settled() == 2


async def test_what_is_missing_before_a_batch_is_read_from_the_log(deployment: Deployment) -> None:
    follower = await deployment.follower()
    await deployment.publish(*(step(number) for number in range(10)))
    first = await deployment.deliver(count=2)
    await deployment.deliver(count=5)
    last = await deployment.deliver()

    await follower.take(first)
    await follower.take(last)

    await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys)
    assert await deployment.pending() == 0


async def test_batches_that_come_in_the_wrong_order_are_projected_in_the_right_one(deployment: Deployment) -> None:
    follower = await deployment.follower()
    await deployment.publish(*(step(number) for number in range(6)))
    first, second = await deployment.deliver(count=3), await deployment.deliver(count=3)

    await follower.take(second)
    await follower.take(first)

    await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys)


async def test_the_last_event_before_a_silence_is_projected_though_its_delivery_was_lost(
    any_deployment: Deployment,
) -> None:
    async with any_deployment.projecting(stream_block_time=10):
        await any_deployment.publish(analysis(1))
        await any_deployment.settled()
        for source in any_deployment.keys.sources():
            if source.name.startswith("workflow:"):
                await any_deployment.redis.xgroup_setid(source.key, "projector", "9999999999999-0")

        await any_deployment.publish(step(50).by("ada"))

        assert await any_deployment.settled() == 3


async def test_entries_that_were_given_out_and_dropped_do_not_stay_pending(deployment: Deployment) -> None:
    await deployment.follower()
    await deployment.publish(step(1))
    dropped = await deployment.deliver()
    await deployment.publish(step(2))
    async with deployment.projecting():
        await deployment.publish(step(3))
        await deployment.settled()
        await wait_until(lambda: _none_pending(deployment))
    assert len(dropped) == 1


async def test_what_is_projected_but_was_not_acknowledged_does_not_stay_pending(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis went away between the checkpoint and the acknowledgement, and nobody publishes any more."""
    xack = cast("Any", Redis).xack
    failures = ["once"]

    async def failing(redis: Redis, *stream_ids: object) -> int:
        if failures:
            failures.pop()
            raise RedisConnectionError("gone")
        return await xack(redis, *stream_ids)

    monkeypatch.setattr(Redis, "xack", failing)
    async with deployment.projecting():
        await deployment.publish(step(1))
        await deployment.settled()
        await wait_until(lambda: not failures)
        await wait_until(lambda: _none_pending(deployment))


async def test_a_delivery_lost_while_running_is_read_again_and_acknowledged(deployment: Deployment) -> None:
    follower = await deployment.follower()
    await deployment.publish(step(1))
    await follower.take(await deployment.deliver())
    await deployment.publish(step(2))
    await deployment.deliver()
    await deployment.publish(step(3))

    await follower.take(await deployment.deliver())

    await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys)
    assert await deployment.pending() == 0


async def _none_pending(deployment: Deployment) -> bool:
    return await deployment.pending() == 0


async def test_an_entry_by_another_hand_among_events_is_no_loss(deployment: Deployment) -> None:
    """It has no offset, so the count goes on from the event before it."""
    follower = await deployment.follower()
    lost = counted("pipai_lost_events_total")
    await deployment.publish(step(1), step(2))
    await deployment.redis.xadd(deployment.source().key, {"hello": "world"})
    await follower.take(await deployment.deliver())
    await deployment.publish(step(3))

    await follower.take(await deployment.deliver())

    await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys)
    assert counted("pipai_lost_events_total") == lost
    assert await deployment.raised() == [0]
