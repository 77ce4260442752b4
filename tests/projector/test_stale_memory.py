"""What a projector remembers may be of a Redis that is no more, or behind a rival: nothing may rest on it."""

from contextlib import suppress
from typing import Any, cast

import pytest

from core.log.checkpoint import Checkpoint
from core.log.keys import Source
from core.views.checkpoints import Checkpoints
from core.views.errors import CommitError
from pipai_contracts.ids import Topic
from services.projector import follower as following
from tests.core.telling import ai, analysis, step
from tests.projector.conftest import Deployment, counted
from tests.projector.fresh_fold import assert_views_are_a_fresh_fold

ADA = Topic("default", "user", "ada")
WORKFLOW = Topic("default", "workflow", "w")


def _views_slot(deployment: Deployment, *topics: Topic) -> list[str]:
    keys = deployment.keys
    per_topic = [name for topic in topics for name in (keys.view(topic), keys.feed(topic))]
    return [*per_topic, keys.changes(0), keys.checkpoint(0)]


async def test_what_a_rival_took_in_and_trimmed_meanwhile_is_not_lost(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between asking for the checkpoint and reading from there, a projector may stand still for any time."""
    deployment.settings = deployment.settings.model_copy(update={"stream_max_entries": 10})
    slow, rival = await deployment.follower(), await deployment.follower()
    await deployment.publish(*(step(number % 90) for number in range(300)))
    lost, read = counted("pipai_lost_events_total"), following.read_entries
    stands_still = ["once"]

    async def read_late(*args: Any, **more: Any) -> Any:
        if stands_still:
            stands_still.pop()
            await rival.catch_up()
        return await read(*args, **more)

    monkeypatch.setattr(following, "read_entries", read_late)
    await slow.catch_up()

    assert await deployment.redis.xlen(deployment.source().key) < 300
    assert counted("pipai_lost_events_total") == lost
    assert await deployment.raised() == [0]


async def test_a_commit_that_redis_lost_before_the_checkpoint_moved_is_made_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old master took the commit and died; the retried move of the checkpoint reaches the new one."""
    follower = await deployment.follower()
    await deployment.publish(step(10).by("ada"))
    await follower.take(await deployment.deliver())
    before = await deployment.remember(*_views_slot(deployment, WORKFLOW, ADA))
    advance, failovers = Checkpoints.advance, ["once"]

    async def fail_over(self: Checkpoints, source: Source, checkpoint: Checkpoint, **more: Any) -> None:
        if failovers:
            failovers.pop()
            await deployment.go_back(before)
        await advance(self, source, checkpoint, **more)

    monkeypatch.setattr(Checkpoints, "advance", fail_over)
    await deployment.publish(step(20).by("ada"))
    await follower.take(await deployment.deliver())

    assert await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys) == 2
    assert await deployment.raised() == [1]


async def test_views_in_memory_that_redis_lost_are_not_believed_when_a_source_is_taken_over(
    deployment: Deployment,
) -> None:
    """They were loaded for another source, with what a rival had brought into them."""
    rival = await deployment.follower()
    taken_over, other = await deployment.followers(deployment.source(), deployment.source("ai:progress"))
    await deployment.publish(analysis(10).by("ada"))
    await (await deployment.follower(deployment.source("analysis:progress"))).catch_up()
    before = await deployment.remember(*_views_slot(deployment, ADA))
    await deployment.publish(step(10).by("ada"))
    await rival.catch_up()
    await deployment.publish(ai("word").by("ada"))
    await other.catch_up()
    await deployment.redis.delete(deployment.keys.view(WORKFLOW), deployment.keys.feed(WORKFLOW))
    await deployment.go_back(before)
    await deployment.store.raise_generation(0)

    await taken_over.catch_up()
    await other.catch_up()

    assert await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys) == 3


async def test_what_a_rival_committed_is_not_believed_once_redis_has_lost_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rival died before its checkpoint; all there was to fold was heard already, so nothing was committed anew."""
    rival, taken_over = await deployment.follower(), await deployment.follower()
    await deployment.publish(analysis(10, of="other"))
    await (await deployment.follower(deployment.source("analysis:progress"))).catch_up()
    before = await deployment.remember(*_views_slot(deployment, WORKFLOW))
    await deployment.publish(step(10))
    advance, failovers = Checkpoints.advance, ["once"]

    async def die(*_: Any, **__: Any) -> None:
        raise ConnectionError("died")

    with monkeypatch.context() as dying:
        dying.setattr(Checkpoints, "advance", die)
        with pytest.raises(ConnectionError):
            await rival.catch_up()

    async def fail_over(self: Checkpoints, source: Source, checkpoint: Checkpoint, **more: Any) -> None:
        if failovers:
            failovers.pop()
            await deployment.redis.delete(deployment.keys.view(WORKFLOW), deployment.keys.feed(WORKFLOW))
            await deployment.go_back(before)
            await deployment.store.raise_generation(0)
        await advance(self, source, checkpoint, **more)

    monkeypatch.setattr(Checkpoints, "advance", fail_over)
    for _ in range(2):
        with suppress(CommitError):
            await taken_over.catch_up()

    assert not failovers
    assert await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys) == 2


async def test_no_position_is_given_a_second_time_by_a_source_whose_own_checkpoint_was_not_lost(
    deployment: Deployment,
) -> None:
    """A viewer that comes back just then would not be told: its cursor still fits, and stands for another event."""
    workflows, files = await deployment.followers(deployment.source(), deployment.source("analysis:progress"))
    await deployment.publish(step(10).by("ada"), analysis(10).by("ada"))
    await workflows.catch_up()
    await files.catch_up()
    before = await deployment.remember(*_views_slot(deployment, WORKFLOW, ADA))
    await deployment.publish(step(20).by("ada"))
    await workflows.catch_up()
    given = await _positions(deployment)
    await deployment.go_back(before)

    await deployment.publish(analysis(20).by("ada"))
    with suppress(CommitError):
        await files.catch_up()
    await files.catch_up()

    again = await _positions(deployment)
    assert {place for place in given.keys() & again.keys() if given[place] != again[place]} == set()
    assert await deployment.raised() == [1]
    await workflows.catch_up()
    assert await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys) == 3


async def _positions(deployment: Deployment) -> dict[tuple[bytes, ...], bytes]:
    """What stands at each cursor of each topic, as the change feed has it."""
    entries = cast("list[Any]", await deployment.redis.xrange(deployment.keys.changes(0)))
    places = (b"topic", b"epoch", b"pos")
    return {tuple(fields[name] for name in places): fields[b"data"] for _, fields in entries if b"pos" in fields}
