"""Views that are not what the log says are found, and mended while traffic flows."""

import asyncio
import json
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic_core import from_json, to_json

from core.log.history import History
from core.log.reader import LogReader
from core.runtime.lua import Script
from core.runtime.tasks import running
from core.views.refold import Refolder
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId
from tests.admin.conftest import Admin
from tests.conftest import wait_until
from tests.core.telling import ai, analysis, notice, step, temporal
from tests.projector.conftest import Deployment
from tests.projector.fresh_fold import assert_views_are_a_fresh_fold, is_projected
from tests.projector.random_run import random_run

_SPOILT = {"workflow:0": {"updated": "2025-01-01T00:00:00.000Z", "counts": {"failed": 7}}}
"""A part of a user's state that no event will mend."""


async def plant(deployment: Deployment, kind: str, resource_id: str, **fields: object) -> None:
    """Change fields of a view's stored state behind everybody's back."""
    key = deployment.keys.view(Topic.parse(f"default:{kind}:{resource_id}"))
    state = from_json((await deployment.redis.hget(key, "state")) or b"")
    await deployment.redis.hset(key, "state", to_json({**state, **fields}))
    await deployment.redis.hset(
        key, "version", f"planted-{uuid.uuid4().hex}"
    )  # else a projector at work writes its own over it


async def test_nothing_differs_after_a_busy_day(
    any_deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment, partitions = any_deployment, any_deployment.keys.partitions
    async with deployment.projecting():
        await deployment.publish(*random_run(1, 300))
        views = await deployment.settled()
    assert await admin("verify", partitions=partitions) == 0
    assert f"verified {views}, different 0, unverifiable 0" in capsys.readouterr().out


async def test_a_planted_difference_is_printed_with_its_path(
    deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    async with deployment.projecting():
        await deployment.publish(step(10).by("ada"), step(50).by("ada"), step(20, of="other"))
        await deployment.settled()
    await plant(deployment, "workflow", "w", progress=49, message="planted")
    capsys.readouterr()
    assert await admin("verify", "workflow", "--json") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {"topic": "default:workflow:w", "path": "progress", "live": 49, "fresh": 50},
        {"topic": "default:workflow:w", "path": "message", "live": "planted", "fresh": None},
        {"verified": 2, "different": 1, "unverifiable": 0},
    ]


async def test_only_the_chosen_view_is_looked_at(
    deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    async with deployment.projecting():
        await deployment.publish(step(10).by("ada"), step(20, of="other"), analysis(5))
        await deployment.settled()
    await plant(deployment, "workflow", "w", progress=49)
    assert await admin("verify", "workflow", "--id", "other") == 0
    assert await admin("verify", "file") == 0
    assert await admin("verify", "workflow", "--id", "w") == 1
    assert await admin("verify", "--id", "w") == 2
    assert "needs a kind" in capsys.readouterr().err


async def test_a_hole_in_a_feed_is_found(
    deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    async with deployment.projecting():
        await deployment.publish(step(10), step(20), step(30))
        await deployment.settled()
    await deployment.redis.xdel(deployment.keys.feed(Topic.parse("default:workflow:w")), "2-0")
    assert await admin("verify") == 1
    assert "default:workflow:w feed.length: live 2, fresh 3" in capsys.readouterr().out


async def test_parked_events_are_in_no_view_and_in_no_fold(
    deployment: Deployment, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's view refuses an event: it is in no view, not even the workflow's, which could take it."""

    def refuse(*_: object) -> None:
        raise ValueError("refused")

    async with deployment.projecting():
        await deployment.publish(step(10).by("ada"))
        await deployment.settled()
        with monkeypatch.context() as broken:
            broken.setattr("core.views.user.evolve", refuse)
            (parked,) = await deployment.publish(step(20).by("ada"))
            await wait_until(deployment.letters, message="the event was not parked")
        await deployment.publish(step(30).by("ada"))
        await deployment.settled_without(parked)
    assert await admin("verify") == 0
    assert await admin("rebuild") == 0


async def test_a_rebuild_mends_views_and_leaves_the_sound_ones_alone(
    any_deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment, partitions = any_deployment, any_deployment.keys.partitions
    async with deployment.projecting():
        await deployment.publish(
            step(10).by("ada"), ai("text"), analysis(100).by("ada"), notice("hi"), temporal("running"), step(5, of="x")
        )
        views = await deployment.settled()
        await plant(deployment, "workflow", "w", progress=49)
        await plant(deployment, "user", "ada", sources={})
        await deployment.redis.delete(deployment.keys.view(Topic.parse("default:file:f")))
        assert await admin("rebuild", "--dry-run", partitions=partitions) == 0
        assert "would be rebuilt 3" in capsys.readouterr().out
        assert (await deployment.view("workflow", "w")).model_dump()["progress"] == 49
        assert await admin("rebuild", partitions=partitions) == 0
        assert f"rebuilt 3, same {views - 3}, unverifiable 0" in capsys.readouterr().out
        assert await deployment.settled() == views
        await deployment.publish(step(60).by("ada"), analysis(0, run="again").by("ada"))
        assert await deployment.settled() == views
    assert await admin("rebuild", partitions=partitions) == 0
    assert f"rebuilt 0, same {views}" in capsys.readouterr().out


async def test_a_rebuilt_view_begins_another_epoch_and_keeps_its_feed(deployment: Deployment, admin: Admin) -> None:
    topic = Topic.parse("default:workflow:w")
    async with deployment.projecting():
        await deployment.publish(step(10), step(20), step(30))
        await deployment.settled()
        before = (await deployment.store.snapshot(topic, 0)).cursor
        await plant(deployment, "workflow", "w", progress=49)
        assert await admin("rebuild") == 0
        after = (await deployment.store.snapshot(topic, 0)).cursor
        assert after.pos == before.pos
        assert after.epoch != before.epoch
        feed = await deployment.store.read_feed(topic, after=0, count=10)
        assert [(item.pos, from_json(item.data)["progress"]) for item in feed] == [(1, 10), (2, 20), (3, 30)]
        await plant(deployment, "workflow", "w", progress=49)
        assert await admin("rebuild") == 0
        assert (await deployment.store.snapshot(topic, 0)).cursor.epoch not in {before.epoch, after.epoch}


async def test_views_are_mended_while_a_producer_and_a_projector_go_on(
    any_deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    """Views are damaged while events of them come in all the time; afterwards each is the fold of its log."""
    deployment, partitions = any_deployment, any_deployment.keys.partitions

    async def produce() -> None:
        for number in range(1, 1000):
            await deployment.publish(*random_run(number, 3))
            await asyncio.sleep(0.02)

    async with deployment.projecting():
        await deployment.publish(*random_run(0, 200))
        await deployment.settled()
        async with running(produce()):
            await plant(deployment, "user", "ada", sources=_SPOILT)
            await plant(deployment, "user", "bob", sources=_SPOILT)
            assert await admin("verify", partitions=partitions) == 1
            assert "different 2," in capsys.readouterr().out
            assert await admin("rebuild", partitions=partitions) == 0
            assert "rebuilt 2, " in capsys.readouterr().out
            assert await admin("verify", partitions=partitions) == 0
        await deployment.settled()


async def test_a_view_whose_first_event_is_trimmed_is_never_overwritten(
    deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    async with deployment.projecting():
        await deployment.publish(step(10), step(20), step(30), step(40), step(5, of="later"))
        await deployment.settled()
    log = deployment.source().key
    await deployment.redis.xtrim(log, maxlen=2, approximate=False)
    await plant(deployment, "workflow", "w", progress=49)
    await plant(deployment, "workflow", "later", progress=6)
    assert await admin("rebuild", "workflow") == 1
    told = capsys.readouterr()
    assert "rebuilt 1, same 0, unverifiable 1" in told.out
    assert "default:workflow:w is left alone: its first event" in told.err
    assert (await deployment.view("workflow", "w")).model_dump()["progress"] == 49
    assert (await deployment.view("workflow", "later")).model_dump()["progress"] == 5
    assert await admin("verify", "workflow") == 0
    assert "verified 1, different 0, unverifiable 1" in capsys.readouterr().out


async def test_an_ai_event_that_is_trimmed_makes_its_workflow_unverifiable(
    deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    """The workflow stream is whole; what the AI stream lost may have been this workflow's."""
    async with deployment.projecting():
        await deployment.publish(step(10), ai("gone"), ai("kept"), step(20))
        await deployment.settled()
    await deployment.redis.xtrim(deployment.source("ai:progress").key, maxlen=1, approximate=False)
    await plant(deployment, "workflow", "w", progress=49)
    assert await admin("rebuild") == 1
    assert "unverifiable 1" in capsys.readouterr().out
    assert (await deployment.view("workflow", "w")).model_dump()["progress"] == 49


async def test_a_missing_view_is_written_only_when_nothing_was_trimmed(
    deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    async with deployment.projecting():
        await deployment.publish(step(10, of="old"), step(10), step(20))
        await deployment.settled()
    view = deployment.keys.view(Topic.parse("default:workflow:w"))
    await deployment.redis.delete(view)
    assert await admin("verify", "workflow", "--id", "w") == 1
    assert await admin("rebuild", "workflow", "--id", "w") == 0
    assert (await deployment.view("workflow", "w")).model_dump()["progress"] == 20
    await deployment.redis.delete(view)
    await deployment.redis.xtrim(deployment.source().key, maxlen=2, approximate=False)
    assert await admin("rebuild", "workflow", "--id", "w") == 1
    assert not await deployment.redis.exists(view)
    assert "no view that says when" in capsys.readouterr().err


async def test_a_view_that_began_anew_over_a_trimmed_log_is_left_alone(deployment: Deployment, admin: Admin) -> None:
    """It was deleted, and an event came after: the view knows one event, the log two, and there were more."""
    async with deployment.projecting():
        await deployment.publish(step(10), step(20), step(30))
        await deployment.settled()
        await deployment.redis.delete(deployment.keys.view(Topic.parse("default:workflow:w")))
        await deployment.redis.xtrim(deployment.source().key, maxlen=1, approximate=False)
        (last,) = await deployment.publish(step(40))
        checkpoint = StreamId.parse(last.stream_id)

        async def projected() -> bool:
            return (await deployment.checkpoints.load(deployment.source())).stream_id == checkpoint

        await wait_until(projected)
    assert await admin("rebuild") == 1


async def test_events_deleted_from_the_end_of_the_log_leave_their_views_alone(
    deployment: Deployment, admin: Admin
) -> None:
    async with deployment.projecting():
        await deployment.publish(step(10), step(20))
        await deployment.settled()
    await deployment.redis.xtrim(deployment.source().key, maxlen=0, approximate=False)
    await plant(deployment, "workflow", "w", progress=49)
    assert await admin("rebuild") == 1
    assert (await deployment.view("workflow", "w")).model_dump()["progress"] == 49


async def test_an_older_event_of_a_source_that_was_behind_is_missed(
    deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    """The AI event came before the workflow's first one, but into the view after it; then it was trimmed."""
    _, kept = await deployment.publish(ai("gone"), ai("kept", of="other"))

    async def later() -> bool:
        seconds, micros = await deployment.redis.time()
        return seconds * 1000 + micros // 1000 > StreamId.parse(kept.stream_id).milliseconds

    await wait_until(later)
    await deployment.publish(step(10))
    for name in ("workflow:progress", "ai:progress"):
        await (await deployment.follower(deployment.source(name))).catch_up()
    await deployment.redis.xtrim(deployment.source("ai:progress").key, maxlen=1, approximate=False)
    await plant(deployment, "workflow", "w", progress=49)
    assert await admin("rebuild", "workflow", "--id", "w") == 1
    assert "its view has 2 events, the log 1 of them" in capsys.readouterr().err


async def test_a_view_of_events_that_a_newer_build_wrote_is_left_alone(
    deployment: Deployment, admin: Admin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were projected before the downgrade; this build cannot say what the view should be."""
    async with deployment.projecting():
        await deployment.publish(step(10).by("ada"))
        await deployment.settled()
    await plant(deployment, "workflow", "w", progress=49)
    monkeypatch.setattr("pipai_contracts.upcast.SCHEMA_VERSION", 0)
    assert await admin("rebuild") == 1
    told = capsys.readouterr()
    assert "rebuilt 0, same 0, unverifiable 2" in told.out
    assert "default:workflow:w is left alone: events of it were written and projected by a newer build" in told.err
    assert await admin("verify", "user") == 0
    assert "unverifiable 1" in capsys.readouterr().out


@pytest.fixture
async def busy(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A view with another event after each page that is written of a feed for it, but for every fourth."""
    pages, call, loop = list[int](), Script.__call__, asyncio.get_running_loop()

    async def commit() -> None:
        await deployment.publish(step(50).by("ada"))
        await wait_until(lambda: is_projected(deployment.redis, deployment.keys))

    async def and_a_commit(script: Script, keys: Sequence[str], args: Sequence[str | int | bytes]) -> Any:
        answer = await call(script, keys, args)
        if [key for key in keys if "staged" in key] == keys:
            pages.append(len(args) // 4)
            if len(pages) % 4:
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(commit(), loop))
        return answer

    monkeypatch.setattr(Script, "__call__", and_a_commit)
    return pages


async def test_a_view_that_hardly_stands_still_is_rebuilt_all_the_same(
    deployment: Deployment, admin: Admin, busy: list[int]
) -> None:
    """Its feed takes ten pages to write: they are written once, and then what came meanwhile."""
    async with deployment.projecting():
        await deployment.publish(*(step(number % 100).by("ada") for number in range(1000)))
        await deployment.settled()
        await plant(deployment, "user", "ada", sources=_SPOILT)
        assert await admin("rebuild", "user") == 0
        assert busy == [100] * 10 + [8, 1]
        await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys)


async def test_a_view_that_hardly_stands_still_is_folded_again_all_the_same(
    deployment: Deployment, busy: list[int]
) -> None:
    """As one that cannot be read, when a projector makes it anew."""
    async with deployment.projecting():
        await deployment.publish(*(step(number % 100).by("ada") for number in range(1000)))
        await deployment.settled()
        topic = Topic.parse("default:user:ada")
        await deployment.redis.unlink(deployment.keys.view(topic), deployment.keys.feed(topic))
        await deployment.publish(step(60).by("ada"))
        await wait_until(lambda: is_projected(deployment.redis, deployment.keys))
        history = History(LogReader(deployment.redis, deployment.keys), deployment.keys, None)
        refolder = Refolder(deployment.redis, deployment.keys, history, feed_length=5000, ttl=600)
        assert await refolder.refold([topic], whole=True) == 1001 + len(busy) - len(busy) // 4
        assert busy == [100] * 10 + [1, 9]
        await assert_views_are_a_fresh_fold(deployment.redis, deployment.keys)
