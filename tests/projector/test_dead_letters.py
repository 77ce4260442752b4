"""Dead letters and a projector that runs: nothing is in a view twice, and nothing stops."""

from collections.abc import Awaitable, Callable
from typing import cast

import pytest
from redis.asyncio import Redis

from core.log import dead
from core.log.keys import Keys
from core.log.letters import Letters
from core.log.redrive import Resolver, Tally
from core.views import project
from core.views.folds import State, evolve
from pipai_contracts.dead_letters import DeadLetter, LetterFilter
from pipai_contracts.record import Record
from pipai_contracts.views import WorkflowView
from tests.conftest import wait_until
from tests.core.telling import step
from tests.projector.conftest import Deployment, counted
from tests.projector.fresh_fold import assert_views_are_a_fresh_fold, is_projected

EVERYTHING = LetterFilter()

Damage = Callable[[Redis, Keys], Awaitable[None]]


class Fold:
    """The fold, which cannot take progress 13 until it is fixed."""

    def __init__(self) -> None:
        self.fixed = False

    def __call__(self, state: State, record: Record) -> State:
        if b'"progress":13' in record.data and not self.fixed:
            raise ArithmeticError("unlucky")
        return evolve(state, record)


@pytest.fixture
def fold(monkeypatch: pytest.MonkeyPatch) -> Fold:
    fold = Fold()
    monkeypatch.setattr(project, "evolve", fold)
    return fold


def resolver(deployment: Deployment) -> Resolver:
    return Resolver(deployment.redis, deployment.keys, owner_ttl=60)


async def letters(deployment: Deployment) -> list[DeadLetter]:
    page = await Letters(deployment.redis, deployment.keys).page(EVERYTHING, after=None, limit=100)
    return page.letters


async def progress(deployment: Deployment, workflow_id: str = "w") -> float:
    view = await deployment.view("workflow", workflow_id)
    assert isinstance(view, WorkflowView)
    return view.progress or 0


async def test_what_was_redriven_after_a_fix_is_in_the_views_once(deployment: Deployment, fold: Fold) -> None:
    async with deployment.projecting():
        _, unlucky, _ = await deployment.publish(*(step(number).by("ada") for number in (12, 13, 14)))
        await deployment.settled_without(unlucky)
        assert await progress(deployment) == 14
        fold.fixed = True
        assert (await resolver(deployment).redrive(EVERYTHING, limit=10)).total == Tally(done=1)
        await deployment.settled_without(unlucky)

    assert await progress(deployment) == 13  # as a new event it is the latest
    assert await letters(deployment) == []


async def test_an_entry_of_another_hand_goes_round_once_and_the_topic_goes_on(deployment: Deployment) -> None:
    async with deployment.projecting():
        await deployment.redis.xadd(deployment.source().key, {"hello": "world"})
        for attempts in (1, 2, 3):
            await deployment.publish(step(attempts))
            await deployment.settled()
            (letter,) = await letters(deployment)
            assert (letter.attempts, (letter.fields or {})["hello"]) == (attempts, "world")
            await resolver(deployment).redrive(EVERYTHING, limit=10)
        await deployment.settled()
        assert await progress(deployment) == 3


@pytest.mark.parametrize("redriven", [True, False], ids=["redriven", "still a letter"])
async def test_views_that_went_back_do_not_take_in_what_was_parked(
    deployment: Deployment, fold: Fold, redriven: bool
) -> None:
    """The fold is fixed by the time the log is read again; the event would count beside its redriven copy."""
    parked = counted("pipai_parked_events_total")
    async with deployment.projecting():
        _, unlucky, _ = await deployment.publish(*(step(number).by("ada") for number in (12, 13, 14)))
        await deployment.settled_without(unlucky)
        fold.fixed = True
        if redriven:
            await resolver(deployment).redrive(EVERYTHING, limit=10)
            await deployment.settled_without(unlucky)

    keys, topic = deployment.keys, step(1).by("ada").envelope("x").topic
    lost = [keys.checkpoint(0), keys.changes(0), keys.view(topic), keys.feed(topic)]
    lost += [key.replace("workflow:w", "user:ada") for key in lost[2:]]
    await deployment.redis.delete(*lost)
    async with deployment.projecting():
        await wait_until(lambda: is_projected(deployment.redis, keys))
        await deployment.settled_without(unlucky)
    assert len(await letters(deployment)) == (0 if redriven else 1)
    assert counted("pipai_parked_events_total") - parked == 1


async def test_redriving_everything_while_events_come_and_fail(any_deployment: Deployment, fold: Fold) -> None:
    deployment = any_deployment
    topics = [f"w{number}" for number in range(10)]
    async with deployment.projecting():
        await deployment.publish(*(step(13, of=topic).by("ada") for topic in topics))
        for number in range(20, 40):
            await deployment.publish(*(step(number, of=topic).by("ada") for topic in topics))
            await resolver(deployment).redrive(EVERYTHING, limit=1000)
        await wait_until(lambda: is_projected(deployment.redis, deployment.keys))
        assert len(await letters(deployment)) == len(topics)
        fold.fixed = True
        await resolver(deployment).redrive(EVERYTHING, limit=1000)
        await wait_until(lambda: is_projected(deployment.redis, deployment.keys))

    await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys, without=await ever_parked(deployment))
    assert [await progress(deployment, topic) for topic in topics] == [13] * len(topics)
    assert await letters(deployment) == []


async def ever_parked(deployment: Deployment) -> set[tuple[str, str]]:
    """Source and stream id of all events that were parked, redriven or not."""
    parked: set[tuple[str, str]] = set()
    for source in deployment.keys.sources():
        stream_ids = cast("list[bytes]", await deployment.redis.zrange(deployment.keys.parked(source), 0, -1))
        parked |= {(source.name, stream_id.decode()) for stream_id in stream_ids}
    return parked


async def test_letters_that_are_pushed_out_are_counted(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead, "MAX_DEAD", 2)
    before = counted("pipai_pushed_out_letters_total")
    async with deployment.projecting():
        for number in range(5):
            await deployment.redis.xadd(deployment.source().key, {"number": number})
        await deployment.publish(step(1))
        await deployment.settled()
    assert [(letter.fields or {})["number"] for letter in await letters(deployment)] == ["3", "4"]
    assert counted("pipai_pushed_out_letters_total") - before == 3


async def _wide(redis: Redis, keys: Keys) -> None:
    await redis.xadd(keys.source("workflow:progress", 0).key, {f"f{number}": "" for number in range(10_000)})


async def _wrong_type(redis: Redis, keys: Keys) -> None:
    await redis.set(keys.dead(keys.source("workflow:progress", 0)), "mine")
    await redis.xadd(keys.source("workflow:progress", 0).key, {"hello": "world"})


@pytest.mark.parametrize("damage", [_wide, _wrong_type], ids=["ten thousand fields", "a key of the wrong type"])
async def test_nothing_about_a_letter_stops_the_projector(deployment: Deployment, damage: Damage) -> None:
    async with deployment.projecting():
        await damage(deployment.redis, deployment.keys)
        await deployment.publish(step(1))
        await deployment.settled()
    assert len(await letters(deployment)) == 1
