"""A log that went back below its checkpoint, on a master whose clock is behind, hides no event from its views."""

import time
from collections.abc import Sequence
from typing import Any, cast

import pytest
from pydantic_core import from_json

from core.log import lift
from core.log.keys import Source, partition_of
from core.runtime.lua import load_script
from pipai_contracts.ids import Topic
from services.projector.follower import Follower
from tests.conftest import wait_until
from tests.core.telling import ai, step
from tests.projector.conftest import Deployment, counted, deployed
from tests.projector.fresh_fold import assert_views_are_a_fresh_fold, is_projected

W = Topic("default", "workflow", "w")
ADA = Topic("default", "user", "ada")


async def _told(deployment: Deployment, topic: Topic = W) -> list[int]:
    """The progress of every event in the feed of a topic, in its order."""
    items = await deployment.store.read_feed(topic, after=0, count=10_000)
    assert [item.pos for item in items] == list(range(1, len(items) + 1))
    return [from_json(item.data)["progress"] for item in items]


async def _run_ahead(deployment: Deployment, source: Source, seconds: float = 30) -> None:
    """Let the log's next ids be those of a clock that is ahead."""
    await deployment.redis.execute_command("XSETID", source.key, f"{(time.time() + seconds) * 1000:.0f}-0")


async def _lose(
    deployment: Deployment, follower: Follower, kept: Sequence[int], lost: Sequence[int], owner: str = "ada"
) -> None:
    """Have events projected, the latter with ids of a clock that is ahead; then take these from the log again."""
    source = follower.source
    await deployment.publish(*(step(number).by(owner) for number in kept))
    await follower.catch_up()
    old = await deployment.remember(source.key, source.offset)
    await _run_ahead(deployment, source)
    await deployment.publish(*(step(number).by(owner) for number in lost))
    await follower.catch_up()
    await deployment.go_back(old)


@pytest.mark.parametrize("new", [[20], [20, 21], [20, 21, 22]], ids=["fewer", "as many", "more"])
@pytest.mark.parametrize("noticed_by", ["delivery", "watch", "start", "somebody new"])
async def test_events_below_the_checkpoint_are_projected_once_and_in_order(
    deployment: Deployment, noticed_by: str, new: list[int]
) -> None:
    follower = await deployment.follower()
    await _lose(deployment, follower, [1, 2, 3], [11, 12])
    regressed, lost = counted("pipai_log_regressions_total"), counted("pipai_lost_events_total")

    for number in new:
        await deployment.publish(step(number).by("ada"))
    match noticed_by:
        case "delivery":
            await follower.take(await deployment.deliver())
            if len(new) == 1:  # one that was delivered again would look the same
                assert await follower.oldest_waiting() is None
                assert follower.doubtful
                await follower.catch_up()
        case "watch":
            await follower.oldest_waiting()
            assert follower.doubtful
            await follower.catch_up()
        case "start":
            await (await deployment.follower()).catch_up()
        case _:
            async with deployment.projecting():
                await wait_until(lambda: is_projected(deployment.redis, deployment.keys))
    follower = await deployment.follower()
    await deployment.publish(step(30).by("ada"))
    await follower.take(await deployment.deliver())

    assert await _told(deployment) == [1, 2, 3, 11, 12, *new, 30]
    assert await _told(deployment, ADA) == [1, 2, 3, 11, 12, *new, 30]
    assert counted("pipai_log_regressions_total") - regressed == 1
    assert counted("pipai_lost_events_total") == lost
    assert await deployment.raised() == [1]
    assert await follower.oldest_waiting() is None
    assert not follower.doubtful


async def test_an_event_that_seems_to_follow_the_checkpoint_hides_none_before_it(deployment: Deployment) -> None:
    """As many came as were lost, then the clock has caught up: the next offset is the very one that is expected."""
    follower = await deployment.follower()
    await _lose(deployment, follower, [1, 2, 3], [11, 12])
    await deployment.publish(step(20), step(21))
    await _run_ahead(deployment, follower.source, 60)
    await deployment.publish(step(22))

    await follower.take(await deployment.deliver())

    assert await _told(deployment) == [1, 2, 3, 11, 12, 20, 21, 22]
    assert await deployment.raised() == [1]


async def test_a_running_projector_notices_by_itself_also_when_nothing_more_comes(deployment: Deployment) -> None:
    async with deployment.projecting():
        follower = await deployment.follower()
        await _lose(deployment, follower, [1, 2, 3], [11, 12])
        await wait_until(lambda: _is_raised(deployment))
        await deployment.publish(step(20).by("ada"))
        await wait_until(lambda: _has_told(deployment, [1, 2, 3, 11, 12, 20]))
        await deployment.publish(step(30).by("ada"))
        await wait_until(lambda: _has_told(deployment, [1, 2, 3, 11, 12, 20, 30]))

    assert await deployment.raised() == [1]
    assert await deployment.pending() == 0


async def _is_raised(deployment: Deployment) -> bool:
    return (await deployment.generations())[0] > 0


async def _has_told(deployment: Deployment, numbers: list[int]) -> bool:
    return await _told(deployment) == numbers


async def test_a_log_that_is_gone_while_its_checkpoint_stayed_goes_on_above_it(deployment: Deployment) -> None:
    follower = await deployment.follower()
    await _run_ahead(deployment, follower.source)
    await deployment.publish(step(1), step(2))
    await follower.catch_up()
    await deployment.redis.delete(follower.source.key, follower.source.offset)
    follower = await deployment.follower()

    await deployment.publish(step(20), step(21), step(22))
    await follower.take(await deployment.deliver())

    assert await _told(deployment) == [1, 2, 20, 21, 22]
    assert await deployment.raised() == [1]


@pytest.mark.parametrize("far", [True, False], ids=["by years", "by minutes"])
@pytest.mark.parametrize("trimmed", [True, False])
async def test_a_checkpoint_that_was_set_ahead_of_the_log_hides_nothing(
    deployment: Deployment, far: bool, trimmed: bool
) -> None:
    follower = await deployment.follower()
    published = await deployment.publish(step(1), step(2), step(3))
    await follower.catch_up()
    if trimmed:
        await deployment.redis.xdel(published[0].stream, published[0].stream_id)
    ahead = 9_999_999_999_999 if far else round((time.time() + 300) * 1000)
    await deployment.redis.hset(deployment.keys.checkpoint(0), "workflow:progress", f"50 {ahead}-0")
    lost = counted("pipai_lost_events_total")

    async with deployment.projecting():
        await deployment.publish(step(20), step(21))
        await wait_until(lambda: _has_told(deployment, [1, 2, 3, 20, 21]))
        await deployment.publish(step(22))
        await wait_until(lambda: _has_told(deployment, [1, 2, 3, 20, 21, 22]))

    assert counted("pipai_lost_events_total") == lost
    assert await deployment.raised() == [1]
    newest = (await deployment.redis.xinfo_stream(follower.source.key))["last-generated-id"]
    assert int(newest.split(b"-")[0]) < (time.time() + 3600) * 1000


async def test_an_event_another_one_has_the_id_of_is_not_taken_for_it(deployment: Deployment) -> None:
    """A clock that runs through the same milliseconds again gives the same ids."""
    follower = await deployment.follower()
    await _lose(deployment, follower, [1], [11, 12, 13])
    items = cast("list[Any]", await deployment.redis.xrange(deployment.keys.feed(W), min="3-0", max="3-0"))
    again = items[0][1][b"stream_id"].decode()
    await deployment.publish(step(20, second=1))
    [(own, fields)] = cast("list[Any]", await deployment.redis.xrevrange(follower.source.key, count=1))
    await deployment.redis.xdel(follower.source.key, own)
    await deployment.redis.xadd(follower.source.key, {**fields, b"time": b"2031-01-01T00:00:00.000Z"}, id=again)

    await follower.oldest_waiting()
    assert follower.doubtful
    await follower.catch_up()

    assert await _told(deployment) == [1, 11, 12, 13, 20]


async def test_many_events_are_moved_in_several_calls(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lift, "_PER_CALL", 7)
    follower = await deployment.follower()
    await _lose(deployment, follower, [1], [2])
    regressed = counted("pipai_log_regressions_total")
    await deployment.publish(*(step(number % 90).by("ada") for number in range(250)))

    await follower.catch_up()

    assert await _told(deployment) == [1, 2, *(number % 90 for number in range(250))]
    assert counted("pipai_log_regressions_total") - regressed == 1
    assert await deployment.redis.get(follower.source.offset) == b"252"


async def test_large_events_are_moved_in_calls_of_some_megabytes(deployment: Deployment) -> None:
    follower = await deployment.follower()
    await _lose(deployment, follower, [1], [2])
    await deployment.publish(*(step(number, message="x" * 200_000) for number in range(10, 60)))
    copies = (await deployment.checkpoints.load_all([follower.source]))[follower.source]
    rows = cast("list[Any]", await deployment.redis.xrange(follower.source.key))
    script = load_script(deployment.redis, lift.__file__, "lift.lua")
    args = [rows[1][0], *copies.highest.stream_id, copies.highest.offset, 2000]
    moved, left = await script(keys=[follower.source.key, follower.source.offset], args=args)
    assert (moved, moved + left) == (8 * 1024 * 1024 // 200_000 + 1, 50)

    await follower.catch_up()
    assert await _told(deployment) == [1, 2, *range(10, 60)]


async def test_events_that_came_while_others_were_moved_stay_behind_them(deployment: Deployment) -> None:
    """Whoever moved the first died before the rest."""
    follower = await deployment.follower()
    await _lose(deployment, follower, [1], [2])
    await deployment.publish(*(step(number) for number in range(10, 20)))
    copies = (await deployment.checkpoints.load_all([follower.source]))[follower.source]
    rows = cast("list[Any]", await deployment.redis.xrange(follower.source.key))
    script = load_script(deployment.redis, lift.__file__, "lift.lua")
    args = [rows[1][0], *copies.highest.stream_id, copies.highest.offset, 4]
    assert await script(keys=[follower.source.key, follower.source.offset], args=args) == [4, 6]
    await deployment.publish(step(30))

    await follower.catch_up()

    assert await _told(deployment) == [1, 2, *range(10, 20), 30]


async def test_a_deleted_event_at_the_checkpoint_is_no_other_log(deployment: Deployment) -> None:
    follower = await deployment.follower()
    *_, last = await deployment.publish(*(step(number).by("ada") for number in range(5)))
    await follower.catch_up()
    await deployment.redis.xdel(last.stream, last.stream_id)

    await follower.oldest_waiting()
    assert follower.doubtful
    await follower.catch_up()
    await follower.oldest_waiting()
    assert not follower.doubtful
    await deployment.publish(step(50).by("ada"))
    await follower.take(await deployment.deliver())

    assert await _told(deployment) == [*range(5), 50]
    assert await deployment.raised() == [0]


async def test_views_of_another_partition_hear_of_events_below_what_they_have_heard(
    redis_url: str, key_prefix: str
) -> None:
    """The log and the views beside it went back together; those of the user did not."""
    async with deployed(redis_url, key_prefix, 2) as deployment:
        names = [f"id {number}" for number in range(100)]
        workflow = next(name for name in names if partition_of(Topic("default", "workflow", name), 2) == 0)
        user = next(name for name in names if partition_of(Topic("default", "user", name), 2) == 1)
        topics = [Topic("default", "workflow", workflow), Topic("default", "user", user)]
        keys, source = deployment.keys, deployment.source(partition=0)
        follower = await deployment.follower(source)
        beside = [source.key, source.offset, keys.view(topics[0]), keys.feed(topics[0])]
        beside += [keys.changes(0), keys.checkpoint(0)]
        await deployment.publish(step(1, of=workflow).by(user))
        await follower.catch_up()
        old = await deployment.remember(*beside)
        await _run_ahead(deployment, source)
        await deployment.publish(step(11, of=workflow).by(user), step(12, of=workflow).by(user))
        await follower.catch_up()
        await deployment.go_back(old)

        await deployment.publish(step(20, of=workflow).by(user))
        async with deployment.projecting():
            await wait_until(lambda: is_projected(deployment.redis, keys))
            await deployment.publish(step(30, of=workflow).by(user))
            await wait_until(lambda: is_projected(deployment.redis, keys))

        assert await _told(deployment, topics[0]) == [1, 20, 30]
        assert await _told(deployment, topics[1]) == [1, 11, 12, 20, 30]
        assert min(await deployment.generations()) >= 1


async def test_another_source_is_left_alone(deployment: Deployment) -> None:
    follower = await deployment.follower()
    await deployment.publish(ai("a"))
    await _lose(deployment, follower, [1], [2])
    await deployment.publish(ai("b"), step(20).by("ada"))
    other = deployment.source("ai:progress")
    before = await deployment.redis.xrange(other.key)

    async with deployment.projecting():
        await wait_until(lambda: is_projected(deployment.redis, deployment.keys))

    assert await deployment.redis.xrange(other.key) == before


async def test_a_log_that_is_whole_is_left_as_it_is(any_deployment: Deployment) -> None:
    async with any_deployment.projecting():
        await any_deployment.publish(*(step(number % 90, of=f"w{number % 7}").by("ada") for number in range(100)))
        await any_deployment.settled()
    rows = [await any_deployment.redis.xrange(source.key) for source in any_deployment.keys.sources()]

    async with any_deployment.projecting():
        await any_deployment.settled()
    assert [await any_deployment.redis.xrange(source.key) for source in any_deployment.keys.sources()] == rows
    assert await assert_views_are_a_fresh_fold(any_deployment.redis, any_deployment.keys) == 8
