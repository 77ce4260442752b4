"""What was folded from a user's events before they were erased is not put back afterwards."""

import asyncio
from typing import Any

import pytest

from core.views.refold import Refolder
from pipai_contracts.ids import Topic
from services.admin import erase
from services.admin.alone import alone
from tests.admin.conftest import Admin
from tests.admin.forgetting import MARK, USER, WORDS, at_work, documents, found_in_redis, publish_all
from tests.archiver.conftest import Archived, archived, quick_watch
from tests.archiver.test_rebuilding import of_the_archive

__all__ = ["archived", "documents", "of_the_archive", "quick_watch"]

_TOPIC = Topic("default", "workflow", "carols")


@pytest.fixture
def refolder(archived: Archived) -> Refolder:
    """That of an api."""
    deployment = archived.deployment
    return Refolder(deployment.redis, deployment.keys, archived.history, feed_length=1000, ttl=600)


async def test_by_a_process_that_has_not_heard_of_the_tombstone_yet(
    archived: Archived, admin: Admin, refolder: Refolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody asks for the view when it is removed, and the archive has its events still."""
    monkeypatch.setattr("core.log.tombstones._REMEMBERED", 3600)
    here, wait = asyncio.get_running_loop(), vars(erase.Erasure)["_is_out_of_archive"]

    async def asked_for(*erasure: Any) -> bool:
        refolding = asyncio.run_coroutine_threadsafe(refolder.refold([_TOPIC], whole=True), here)
        assert await asyncio.wrap_future(refolding) == 0
        return await wait(*erasure)

    async with at_work(archived):
        await publish_all(archived)
        await refolder.refold([Topic("default", "workflow", "id 1")])
        monkeypatch.setattr(erase.Erasure, "_is_out_of_archive", asked_for)
        assert await admin("erase", USER, "--confirm", WORDS) == 0
        assert await found_in_redis(archived) == []


async def test_by_a_process_that_had_begun_before(
    archived: Archived, admin: Admin, refolder: Refolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold, folded, erased = vars(Refolder)["_fold"], asyncio.Event(), asyncio.Event()

    async def held_up(*asked: Any) -> Any:
        fresh = await fold(*asked)
        folded.set()
        await erased.wait()
        return fresh

    deployment = archived.deployment
    async with at_work(archived):
        await publish_all(archived)
        await deployment.redis.unlink(deployment.keys.view(_TOPIC), deployment.keys.feed(_TOPIC))
        monkeypatch.setattr(Refolder, "_fold", held_up)
        refolding = asyncio.create_task(refolder.refold([_TOPIC], whole=True))
        await folded.wait()
        assert await admin("erase", USER, "--confirm", WORDS) == 0
        erased.set()
        assert await refolding == 0
        assert await found_in_redis(archived) == []


async def test_a_rebuild_is_not_at_work_meanwhile(
    archived: Archived, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = archived.deployment
    async with at_work(archived):
        await publish_all(archived)
    async with alone(deployment.redis, deployment.keys, "rebuild"):
        assert await admin("erase", USER, "--confirm", WORDS) == 2
    assert "rebuild is at work" in capsys.readouterr().err
    assert MARK in str(await archived.all_history())
