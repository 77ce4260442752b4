"""What another hand broke among our keys is put right, or named; nothing stops for it."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from core.log import history
from core.log.keys import GROUP, Keys
from core.views.folds import render
from pipai_contracts.ids import Topic
from pipai_contracts.views import UserView, WorkflowView
from services.standalone.embedded import redis_server
from tests.conftest import wait_until
from tests.core.telling import ai, analysis, notice, step
from tests.projector.conftest import Deployment, deployed
from tests.projector.fresh_fold import fold_log, is_projected

W = Topic("default", "workflow", "w")


def _repaired(name: str) -> float:
    return REGISTRY.get_sample_value("pipai_repaired_keys_total", {"key": name}) or 0


async def _state(deployment: Deployment, workflow_id: str = "w") -> WorkflowView:
    view = await deployment.view("workflow", workflow_id)
    assert isinstance(view, WorkflowView)
    return view


async def _replace(redis: Redis, key: str) -> None:
    """Put something of another type in the key's place, for as long as a test lasts."""
    is_string = await redis.type(key) == b"string"
    await redis.delete(key)
    await (redis.rpush(key, "by another hand") if is_string else redis.set(key, "by another hand"))
    await redis.expire(key, 600)


async def _projected(deployment: Deployment) -> None:
    await wait_until(lambda: _is_projected(deployment), 20, "not everything was projected")


async def _is_projected(deployment: Deployment) -> bool:
    """As `is_projected`; while a key is broken the answer is no."""
    try:
        return await is_projected(deployment.redis, deployment.keys)
    except ResponseError:
        return False


async def _assert_views_are_folds(deployment: Deployment) -> None:
    """Every view is what its log says. Feeds may have begun anew, and change feeds tell a view again that did."""
    fresh = await fold_log(deployment.redis, deployment.keys)
    stored = await deployment.store.load(list(fresh))
    for topic, view in fresh.items():
        assert render(stored[topic].state) == render(view.state), topic
        assert stored[topic].pos == view.events.total(), topic


Name = Callable[[Keys], str]
Break = Callable[[Redis, str], Awaitable[Any]]

NAMES: dict[str, Name] = {
    "view": lambda keys: keys.view(W),
    "feed": lambda keys: keys.feed(W),
    "changes": lambda keys: keys.changes(0),
    "checkpoint": lambda keys: keys.checkpoint(0),
    "generation": lambda keys: keys.generation(0),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("running", [True, False], ids=["while projecting", "before the start"])
async def test_a_key_of_the_wrong_type_is_made_anew(deployment: Deployment, name: str, running: bool) -> None:
    key = NAMES[name](deployment.keys)
    repaired = _repaired(name)
    async with deployment.projecting():
        await deployment.publish(step(1), ai("a"), step(2).by("ada"), step(1, of="v"))
        await deployment.settled()
        await deployment.store.raise_generation(0)
        if running:
            await _replace(deployment.redis, key)
            await deployment.publish(step(50), step(60, of="v"), ai("b"))
            await _projected(deployment)
    if not running:
        await _replace(deployment.redis, key)
        await deployment.publish(step(50), step(60, of="v"), ai("b"))
        async with deployment.projecting():
            await _projected(deployment)

    workflow = await _state(deployment)
    assert (workflow.progress, workflow.ai and workflow.ai.text) == (50, "ab")
    assert (await _state(deployment, "v")).progress == 60
    assert _repaired(name) - repaired == 1
    assert (await deployment.generations())[0] > 1
    assert not await deployment.letters()
    await _assert_views_are_folds(deployment)


async def _garble(redis: Redis, key: str, field: str, value: str) -> None:
    assert await redis.hset(key, field, value) == 0


CONTENTS: dict[str, tuple[Name, Break]] = {
    "state": (NAMES["view"], lambda redis, key: _garble(redis, key, "state", '{"id":')),
    "position": (NAMES["view"], lambda redis, key: _garble(redis, key, "pos", "far")),
    "heard": (NAMES["view"], lambda redis, key: _garble(redis, key, "heard", '{"workflow:progress":"now"}')),
    "checkpoint": (NAMES["checkpoint"], lambda redis, key: _garble(redis, key, "workflow:progress", "far")),
    "generation": (NAMES["generation"], lambda redis, key: redis.set(key, "the first")),
    "feed": (NAMES["feed"], lambda redis, key: redis.xadd(key, {"by": "hand"}, id="99999-0")),
}


@pytest.mark.parametrize("what", CONTENTS)
async def test_what_cannot_be_read_is_made_anew(deployment: Deployment, what: str) -> None:
    name, harm = CONTENTS[what]
    kind = "view" if name is NAMES["view"] else what
    repaired = _repaired(kind)
    async with deployment.projecting():
        await deployment.publish(step(1), ai("a"), step(2).by("ada"), step(1, of="v"))
        await deployment.settled()
    await harm(deployment.redis, name(deployment.keys))

    async with deployment.projecting():
        await deployment.publish(step(50), step(60, of="v"), ai("b"))
        await _projected(deployment)

    workflow = await _state(deployment)
    assert (workflow.progress, workflow.ai and workflow.ai.text) == (50, "ab")
    assert (await _state(deployment, "v")).progress == 60
    assert _repaired(kind) - repaired == 1
    assert (await deployment.generations())[0] > 0
    assert not await deployment.letters()
    await _assert_views_are_folds(deployment)


async def test_a_view_is_folded_again_from_every_page_of_every_stream_of_the_log(
    any_deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's has heard from all of them; their feed is in the order of the log again."""
    monkeypatch.setattr(history, "_PAGE", 3)
    ada = Topic("default", "user", "ada")
    async with any_deployment.projecting():
        for number in range(5):
            await any_deployment.publish(
                *(step(number, of=f"w{number}").by("ada") for _ in range(4)),
                ai("a", of=f"w{number}").by("ada"),
                analysis(number).by("ada"),
                notice("hello"),
            )
        await any_deployment.settled()
    await _replace(any_deployment.redis, any_deployment.keys.view(ada))

    async with any_deployment.projecting():
        await any_deployment.publish(notice("again"))
        await _projected(any_deployment)

    await _assert_views_are_folds(any_deployment)
    items = await any_deployment.store.read_feed(ada, after=0, count=1000)
    assert [item.pos for item in items] == list(range(1, 5 * 7 + 2))


async def test_a_view_whose_first_events_are_gone_from_the_log_is_folded_from_the_rest(deployment: Deployment) -> None:
    async with deployment.projecting():
        published = await deployment.publish(step(1, "one"), step(2, "two"))
        await deployment.settled()
    await deployment.redis.xdel(published[0].stream, published[0].stream_id)
    await _replace(deployment.redis, deployment.keys.view(W))

    async with deployment.projecting():
        await deployment.publish(step(50, "three"))
        await _projected(deployment)

    assert [item.name for item in (await _state(deployment)).steps] == ["two", "three"]
    assert await deployment.raised() == [1]


async def test_a_dead_letter_stream_of_the_wrong_type_stops_no_source(deployment: Deployment) -> None:
    source = deployment.source()
    repaired = _repaired("dead")
    async with deployment.projecting():
        await deployment.redis.set(deployment.keys.dead(source), "by another hand")
        await deployment.redis.set(source.offset, 1)
        await deployment.redis.xadd(source.key, {"offset": 1, "by": "hand"})
        await deployment.publish(step(50))
        await _projected(deployment)

    assert (await _state(deployment)).progress == 50
    assert len(await deployment.letters()) == 1
    assert _repaired("dead") - repaired == 1


async def test_a_note_of_parked_events_of_the_wrong_type_stops_no_source(deployment: Deployment) -> None:
    """It is asked when the log is read from the checkpoint on, as at the start."""
    repaired = _repaired("parked")
    await deployment.publish(step(50))
    await deployment.redis.set(deployment.keys.parked(deployment.source()), "by another hand")

    async with deployment.projecting():
        await _projected(deployment)

    assert (await _state(deployment)).progress == 50
    assert _repaired("parked") - repaired == 1


async def test_what_was_parked_enters_no_view_that_is_folded_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This build could fold it; its letter may have been redriven."""

    def refuse(*_: object) -> None:
        raise ValueError("not now")

    with monkeypatch.context() as broken:
        broken.setattr("core.views.project.evolve", refuse)
        async with deployment.projecting():
            await deployment.publish(step(1, "one"))
            await _projected(deployment)
    async with deployment.projecting():
        await deployment.publish(step(2, "two"))
        await _projected(deployment)
    await _replace(deployment.redis, deployment.keys.view(W))

    async with deployment.projecting():
        await deployment.publish(step(50, "three"))
        await _projected(deployment)

    assert [item.name for item in (await _state(deployment)).steps] == ["two", "three"]


async def test_a_destroyed_group_is_made_again_under_load(deployment: Deployment) -> None:
    async with deployment.projecting():
        for number in range(60):
            await deployment.publish(*(step(number, of=f"w{one}") for one in range(10)))
            if number % 20 == 10:
                await deployment.redis.xgroup_destroy(deployment.source().key, GROUP)
        assert await deployment.settled() == 10


async def test_a_flushed_redis_is_begun_anew_under_load(tmp_path: Path) -> None:
    """Also while a batch is being projected: what is published after the flush is in its views, once."""
    with redis_server(tmp_path / "redis") as server:
        async with deployed(server.address, "flushed") as deployment, deployment.projecting():
            for number in range(60):
                await deployment.publish(*(step(number, of=f"w{one}").by("ada") for one in range(10)))
                if number % 20 == 10:
                    await deployment.redis.flushall()
            await deployment.publish(step(70), notice("hello"))
            assert await deployment.settled() == 12
            await deployment.redis.flushall()
            await deployment.publish(step(80))
            assert await deployment.settled() == 1
            assert (await deployment.generations())[0] > 0


@pytest.mark.parametrize("running", [True, False], ids=["while projecting", "before the start"])
async def test_a_source_stream_of_the_wrong_type_stops_no_other_and_goes_on_when_it_is_put_right(
    deployment: Deployment, running: bool
) -> None:
    source, projecting = deployment.source(), deployment.projecting()
    async with AsyncExitStack() as stack:
        if running:
            await stack.enter_async_context(projecting)
            await deployment.publish(step(1))
            await deployment.settled()
        await deployment.redis.delete(source.key)
        await deployment.redis.set(source.key, "by another hand", ex=600)
        if not running:
            await stack.enter_async_context(projecting)
        with capture_logs() as told:
            await deployment.publish(notice("hello"), ai("a"))
            await wait_until(lambda: _is_told(deployment))
        assert len([entry for entry in told if entry.get("stream") == source.key]) <= 3  # no hot loop

        await deployment.redis.delete(source.key)
        await deployment.publish(step(50))
        await _projected(deployment)

    assert (await _state(deployment)).progress == 50


async def _is_told(deployment: Deployment) -> bool:
    user, workflow = await deployment.view("user", "ada"), await _state(deployment)
    return isinstance(user, UserView) and len(user.notifications) == 1 and workflow.ai is not None
