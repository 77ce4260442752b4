"""An event of a version no build will ever come for is parked by hand, and its source goes on."""

from collections.abc import AsyncIterator

import pytest

from core.log.letters import Letters
from core.log.read import read_entries
from pipai_contracts.dead_letters import LetterFilter
from pipai_contracts.publish import Published
from pipai_contracts.record import BEGINNING
from tests.admin.conftest import Admin
from tests.conftest import wait_until
from tests.core.telling import ai, step
from tests.projector.conftest import Deployment, counted
from tests.projector.fresh_fold import is_projected


@pytest.fixture
async def waiting(deployment: Deployment) -> AsyncIterator[list[Published]]:
    """A source that waits: behind its first event there are two of version 7, with one of ours between them."""
    async with deployment.projecting():
        await deployment.publish(step(1))
        await deployment.settled()
        newer = [step(2, of="n").envelope(name).model_copy(update={"v": 7}) for name in ("one", "two")]
        first = await deployment.appender.append(newer[:1])
        await deployment.publish(step(3))
        second = await deployment.appender.append(newer[1:])
        await deployment.publish(step(4), ai("goes on"))
        await wait_until(lambda: counted("pipai_waiting_for_upgrade"), message="nothing waits")
        yield [*first, *second]


def _place(published: Published) -> str:
    return f"workflow:progress/{published.stream_id}"


async def test_what_waits_is_shown_with_its_place_and_why(
    waiting: list[Published], admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert await admin("dead", "waiting") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "/" in line and "workflow:n" in line]
    assert lines == [
        f"{_place(one)}  workflow:n  workflow_progress has version 7, this build reads up to 1" for one in waiting
    ]


async def test_its_source_goes_on_once_it_is_parked(
    waiting: list[Published], deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await admin("dead", "park", *map(_place, waiting)) == 0
    assert "2 parked" in capsys.readouterr().out
    await wait_until(lambda: is_projected(deployment.redis, deployment.keys), message="the source still waits")
    assert counted("pipai_waiting_for_upgrade") == 0
    assert (await deployment.view("workflow", "w")).model_dump()["progress"] == 4
    assert await admin("verify") == 0, "a rebuild leaves them out as well"
    assert await admin("verify", "workflow", "--id", "n") == 2
    letters = (await Letters(deployment.redis, deployment.keys).page(LetterFilter(), after=None, limit=9)).letters
    assert [(letter.stream_id, letter.error) for letter in letters] == [
        (one.stream_id, "NewerVersionError: workflow_progress has version 7, this build reads up to 1")
        for one in waiting
    ]
    capsys.readouterr()
    assert await admin("dead", "redrive", "--source", "workflow:progress") == 1
    assert "2 refused" in capsys.readouterr().out, "the source would wait again"
    assert await admin("dead", "purge", "--source", "workflow:progress") == 0


async def test_all_are_parked_after_a_yes_only(
    waiting: list[Published], deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await admin("dead", "park", "--all") == 2
    assert f"{len(waiting)} events would be parked; add --yes to do it" in capsys.readouterr().err
    assert not await deployment.letters()
    assert await admin("dead", "park", "--all", "--yes") == 0
    await wait_until(lambda: is_projected(deployment.redis, deployment.keys), message="the source still waits")
    assert len(await deployment.letters()) == 2


async def test_what_does_not_wait_is_not_parked(
    waiting: list[Published], deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parking what is in a view already would make the view differ from its log."""
    (sound,) = await deployment.publish(step(5))
    (projected,) = await read_entries(deployment.redis, deployment.source(), after=BEGINNING, count=1)
    refused = {
        (): "say which events",
        (_place(waiting[0]), "--all", "--yes"): "say which events",
        (_place(waiting[0]), "x"): "x: must be like workflow:progress/",
        (_place(waiting[0]), "workflow:progress/1-1"): "the log has no such event",
        (_place(waiting[0]), _place(sound)): "waits for nobody: this build can read it",
        (_place(waiting[0]), f"workflow:progress/{projected.stream_id}"): "waits for nobody",
    }
    for places, why in refused.items():
        assert await admin("dead", "park", *places) == 2, places
        assert why in capsys.readouterr().err
    assert not await deployment.letters()


async def test_what_a_newer_build_projected_is_not_parked(
    deployment: Deployment, admin: Admin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with deployment.projecting():
        (published,) = await deployment.publish(step(1))
        await deployment.settled()
    monkeypatch.setattr("pipai_contracts.upcast.SCHEMA_VERSION", 0)
    assert await admin("dead", "park", _place(published)) == 2
    assert "a newer build projected it, or it was parked" in capsys.readouterr().err
    assert await admin("dead", "park", "--all", "--yes") == 0
    assert not await deployment.letters()
