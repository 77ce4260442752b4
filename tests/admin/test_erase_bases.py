"""A user is forgotten whose events were given up already: what views were then tells of them all the same."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from core.views.stored import Stored
from core.views.user import UserState, named
from pipai_contracts.ids import Topic
from tests.admin.conftest import Admin, admin
from tests.admin.forgetting import MARK, USER, WORDS, at_work, documents, found_in_files, found_in_redis
from tests.archiver.conftest import Archived, any_archived, quick_watch
from tests.archiver.test_rebuilding import of_the_archive, trim
from tests.archiver.test_retention import give_up_old, nothing_waits, noticed_at_once, publish_on_days
from tests.core.telling import Told, notice, step

__all__ = ["admin", "any_archived", "documents", "noticed_at_once", "of_the_archive", "quick_watch"]

_SHARED = Topic("default", "workflow", "shared")


async def _given_up(archived: Archived, old: Sequence[Sequence[Told]], new: Sequence[Told]) -> None:
    """Events of the shared workflow, the old of which are in no segment any more.

    Between the parts of the old ones it is forgotten whose it is.
    """
    deployment = archived.deployment
    owner = deployment.keys.source_of("workflow_progress", _SHARED).owner(_SHARED)
    for part in old[:-1]:
        await deployment.publish(*part)
        await deployment.redis.unlink(owner)
    await publish_on_days(archived, (10, old[-1]), (5, new))
    async with at_work(archived):
        await archived.settled()
        await nothing_waits(archived)
    await trim(archived)
    await give_up_old(archived)


async def _bob(archived: Archived) -> Stored:
    [stored] = (await archived.deployment.store.load([Topic("default", "user", "bob")])).values()
    return stored


async def _left(archived: Archived, tmp_path: Path) -> tuple[list[str], list[str], int]:
    """What is left of the user in Redis and in files, and how many events the view of the shared topic has."""
    shared = await archived.deployment.store.load([_SHARED])
    return await found_in_redis(archived), found_in_files(tmp_path), shared[_SHARED].pos


async def test_who_shared_a_topic_keeps_what_they_were_shown_of_their_own(
    any_archived: Archived, admin: Admin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archived, partitions = any_archived, any_archived.deployment.keys.partitions
    hers = [step(10, MARK, of="shared").by(USER)]
    bobs = [step(20, MARK, of="shared").by("bob"), step(20, of="bobs").by("bob"), notice("for bob", of="bob")]
    await _given_up(archived, [hers, bobs], [step(30, of="bobs").by("bob"), step(30, MARK, of="shared").by(USER)])
    before = await _bob(archived)
    async with at_work(archived):
        assert await admin("erase", USER, "--confirm", WORDS, partitions=partitions) == 0
    assert await _left(archived, tmp_path) == ([], [], 0)
    after = await _bob(archived)
    assert isinstance(after.state, UserState)
    assert named(after.state) == {"workflow:bobs"}
    assert after.pos >= before.pos - 1, "what was counted stays counted"
    capsys.readouterr()
    assert await admin("verify", partitions=partitions) == 0
    assert "different 0, unverifiable 0" in capsys.readouterr().out


async def test_a_topic_is_found_that_is_another_users_by_now(
    any_archived: Archived, admin: Admin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing but her own view tells that it was hers, as it was when the days were given up."""
    archived, partitions = any_archived, any_archived.deployment.keys.partitions
    hers = [step(10, MARK, of="shared").by(USER), notice("for her", of=USER)]
    bobs = [step(20, MARK, of="shared").by("bob"), step(20, of="bobs").by("bob")]
    await _given_up(archived, [hers, bobs], [step(30, of="bobs").by("bob"), notice("for her", of=USER)])
    deployment, her = archived.deployment, Topic("default", "user", USER)
    await deployment.redis.unlink(deployment.keys.view(her), deployment.keys.feed(her))
    async with at_work(archived):
        assert await admin("erase", USER, "--confirm", WORDS, partitions=partitions) == 0
    assert await _left(archived, tmp_path) == ([], [], 0)
    capsys.readouterr()
    assert await admin("verify", partitions=partitions) == 0
    assert "different 0, unverifiable 0" in capsys.readouterr().out
