"""Whoever waits for a long command is told how far it is, on stderr: stdout has the results alone."""

import json

import pytest

from tests.admin.conftest import Admin
from tests.core.dead_letters import DeadEnd
from tests.core.telling import step
from tests.projector.conftest import Deployment


@pytest.fixture(autouse=True)
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.admin.progress._EVERY", 0)
    monkeypatch.setattr("services.admin.quiet.LOOK_SECONDS", 0.01)


async def test_every_part_of_a_command_says_how_far_it_is(
    deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    async with deployment.projecting():
        await deployment.publish(step(10), step(20))
        await deployment.settled()
    await DeadEnd(deployment.redis, deployment.keys, deployment.source()).park(1)
    told = {
        ("verify", "--json"): ["events read: 2", "views looked at: 1"],
        ("rebuild",): ["events read: 2", "views looked at: 1"],
        ("dead", "purge", "--all", "--yes", "--json"): ["letters purged: 1"],
        ("repartition", "--to", "2", "--yes"): [
            *["events copied: 2", "views copied: 1", "views checked: 1", "old keys deleted: ", "new keys placed: "],
        ],
    }
    for command, lines in told.items():
        capsys.readouterr()
        assert await admin(*command) == 0
        said = capsys.readouterr()
        assert not [line for line in lines if line not in said.err], said.err
        if "--json" in command:
            assert [json.loads(line) for line in said.out.splitlines()]


async def test_a_quick_command_says_nothing(
    deployment: Deployment, admin: Admin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("services.admin.progress._EVERY", 60)
    async with deployment.projecting():
        await deployment.publish(step(10))
        await deployment.settled()
    capsys.readouterr()
    assert await admin("verify") == 0
    assert capsys.readouterr().err == ""
