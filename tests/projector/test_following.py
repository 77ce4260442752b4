"""Published events reach the views they belong to."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from core.log.entry import Entry
from core.log.keys import GROUP
from core.views.errors import LostBaseError
from pipai_contracts.record import StreamId
from pipai_contracts.views import FileView, UserView, WorkflowView
from services.projector import continuity
from services.projector import follower as following
from services.projector.projection import Projection
from services.projector.stretch import Stretch
from services.projector.turns import Turns, Work
from tests.conftest import wait_until
from tests.core.telling import ai, analysis, notice, step, temporal
from tests.projector.conftest import Deployment, counted
from tests.projector.fresh_fold import is_projected


async def test_events_reach_the_views_of_the_workflow_the_file_and_the_user(any_deployment: Deployment) -> None:
    async with any_deployment.projecting():
        await any_deployment.publish(
            step(10).by("ada"),
            ai("text").by("ada"),
            analysis(20).by("ada"),
            notice("hello"),
            temporal("failed", of="v"),
        )
        assert await any_deployment.settled() == 4

    workflow = await any_deployment.view("workflow", "w")
    file = await any_deployment.view("file", "f")
    user = await any_deployment.view("user", "ada")
    assert isinstance(workflow, WorkflowView)
    assert isinstance(file, FileView)
    assert isinstance(user, UserView)
    assert workflow.ai is not None
    assert (workflow.progress, workflow.ai.text, file.progress) == (10, "text", 20)
    assert ([item.id for item in user.workflows], [item.id for item in user.files]) == (["w"], ["f"])
    assert [item.title for item in user.notifications] == ["hello"]
    assert await any_deployment.pending() == 0


async def test_what_was_published_before_the_first_start_is_projected(any_deployment: Deployment) -> None:
    await any_deployment.publish(*(step(number, of=f"w{number}").by("ada") for number in range(50)))

    async with any_deployment.projecting():
        assert await any_deployment.settled() == 51


async def test_a_batch_may_touch_more_views_than_one_commit_writes(deployment: Deployment) -> None:
    await deployment.publish(*(step(1, of=f"w{number}") for number in range(250)))

    async with deployment.projecting(projector_batch=250):
        assert await deployment.settled() == 250


async def test_a_projector_that_starts_again_goes_on_where_it_stopped(deployment: Deployment) -> None:
    async with deployment.projecting():
        await deployment.publish(step(1), step(2))
        await deployment.settled()
    await deployment.publish(step(3))
    before = counted("pipai_projected_events_total")

    async with deployment.projecting():
        await deployment.publish(step(4))
        await deployment.settled()

    assert counted("pipai_projected_events_total") - before == 2


async def test_a_long_stream_is_trimmed_once_its_events_are_in_the_views(deployment: Deployment) -> None:
    async with deployment.projecting(stream_max_entries=50):
        for _ in range(4):
            await deployment.publish(*(step(1) for _ in range(100)))
        await wait_until(lambda: is_projected(deployment.redis, deployment.keys))

    topic = step(1).envelope("x").topic
    assert (await deployment.store.load([topic]))[topic].pos == 400
    assert await deployment.redis.xlen(deployment.source().key) < 200


async def test_an_event_whose_id_is_ahead_of_the_clock_is_not_stranded(deployment: Deployment) -> None:
    """After a clock was set back, or an entry with an id of the future, age tells nothing about who waits."""
    async with deployment.projecting() as projector:
        await wait_until(lambda: projector.ready, message="the sources are not followed")
        source = deployment.source()
        await deployment.redis.xadd(source.key, {"by": "hand"}, id="99999999999999-0")
        await deployment.redis.xgroup_setid(source.key, GROUP, "99999999999999-9")  # it will deliver nothing
        await deployment.publish(step(1))
        await deployment.settled_without()


async def test_what_follows_an_event_of_a_newer_build_waits_wherever_its_batch_is_cut(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuity, "_PORTION_BYTES", 100)
    follower = await deployment.follower()
    (first,) = await deployment.publish(step(1))
    await deployment.appender.append([step(2).envelope("newer").model_copy(update={"v": 2})])
    await deployment.publish(*(step(number, of="other") for number in range(3, 9)))
    await follower.take(await deployment.deliver())
    assert str((await deployment.checkpoints.load(deployment.source())).stream_id) == first.stream_id


async def test_what_comes_after_a_stretch_that_failed_is_not_projected_without_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else was told of the failure: another partition was being left, and waited for what was under way."""
    project, read, start, failed = Projection.commit, following.read_entries, Turns.commit, asyncio.Event()

    async def fail_once(self: Projection, stretch: Stretch, since: StreamId) -> None:
        if failed.is_set():
            return await project(self, stretch, since)
        failed.set()
        raise RedisConnectionError("cut")

    async def read_after_that(*arguments: Any, **options: Any) -> list[Entry]:
        entries = await read(*arguments, **options)
        if entries and entries[0].offset > 1:
            await failed.wait()
        return entries

    async def start_unheard(self: Turns, work: Work, afterwards: Work) -> None:
        await self.end()
        await start(self, work, afterwards)

    monkeypatch.setattr(following, "FIRST_COUNT", 3)
    monkeypatch.setattr(Projection, "commit", fail_once)
    monkeypatch.setattr(following, "read_entries", read_after_that)
    monkeypatch.setattr(Turns, "commit", start_unheard)
    follower = await deployment.follower()
    await deployment.publish(*(step(number) for number in range(1, 8)))
    with pytest.raises(LostBaseError):
        await follower.catch_up()
    await follower.catch_up()
    await deployment.settled()


async def test_a_failed_commit_is_told_once(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the log when nobody waited for it, else by who did."""

    async def fail(*_: Any) -> None:
        raise RedisConnectionError("cut")

    monkeypatch.setattr(Projection, "commit", fail)
    follower = await deployment.follower()
    await deployment.publish(step(1))
    with capture_logs() as told:
        await follower.begin(await deployment.deliver())
        with pytest.raises(RedisConnectionError):
            await follower.catch_up()
    assert [line["event"] for line in told if line.get("error") == "cut"] == ["stream batch not projected"]


async def test_reads_of_a_backlog_begin_small_and_grow_with_what_comes(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, brought = following.read_entries, list[int]()

    async def count(*arguments: Any, **options: Any) -> list[Entry]:
        entries = await read(*arguments, **options)
        brought.append(len(entries))
        return entries

    monkeypatch.setattr(following, "FIRST_COUNT", 2)
    monkeypatch.setattr(following, "read_entries", count)
    follower = await deployment.follower()
    await deployment.publish(*(step(number) for number in range(20)))
    assert await follower.catch_up() == 20
    assert brought == [2, 4, 8, 6, 0]
