"""Topics that are not there, and keys under the prefix that are none of ours, are named; commands go on."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from core.log.keys import Keys
from core.log.layout import Layout, load_layout
from pipai_contracts.ids import Topic
from tests.admin.conftest import Admin
from tests.admin.test_verify_and_rebuild import plant
from tests.core.telling import step
from tests.projector.conftest import Deployment

NONE_OF_OURS = (b":view:\xff\xfe", b":view:{0}:\xff\xfe", b":view:{0}:no:topic", b":view:{7}:default:workflow:w")


@pytest.fixture
async def foreign(redis_url: str, key_prefix: str) -> AsyncIterator[list[bytes]]:
    """Keys of another program under our prefix, not all of them UTF-8."""
    names = [key_prefix.encode() + name for name in NONE_OF_OURS]
    names.append(b"{" + key_prefix.encode() + b":workflow:progress}:owner:\xff")
    names.append(b"{" + key_prefix.encode() + b":workflow:progress}:seen:x:y")
    async with Redis.from_url(redis_url, protocol=2) as redis:
        for name in names:
            await redis.set(name, "another program's", ex=600)
        yield names
        await redis.delete(*names)


@pytest.mark.parametrize("command", ["verify", "rebuild"])
async def test_a_topic_nobody_published_to_is_refused(
    deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    async with deployment.projecting():
        await deployment.publish(step(10))
        await deployment.settled()
    capsys.readouterr()
    assert await admin(command, "workflow", "--id", "nosuch") == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("no such topic: default:workflow:nosuch has no view")
    assert await admin(command, "workflow", "--id", "w", "--tenant", "other") == 2
    assert await admin(command, "workflow", "--id", "w") == 0


async def test_verify_and_rebuild_name_foreign_views_and_go_on(
    deployment: Deployment, admin: Admin, foreign: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    async with deployment.projecting():
        await deployment.publish(step(10))
        await deployment.settled()
    await plant(deployment, "workflow", "w", progress=9)
    capsys.readouterr()
    prefix = deployment.keys.prefix
    for command, code, told in (("verify", 1, "different 1"), ("rebuild", 0, "rebuilt 1"), ("verify", 0, "verified 1")):
        assert await admin(command) == code
        said = capsys.readouterr()
        assert told in said.out
        assert sorted(said.err.splitlines()) == [
            f"{prefix}:view:{{0}}:\\xff\\xfe is no key of ours and is left alone",
            f"{prefix}:view:{{0}}:no:topic is no key of ours and is left alone",
            f"{prefix}:view:{{7}}:default:workflow:w is no key of ours and is left alone",
        ]
    assert await deployment.redis.exists(*foreign) == len(foreign)


async def test_another_programs_many_keys_are_not_all_named(
    deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        await deployment.redis.set(f"{deployment.keys.views}0}}:{number}", "x", ex=600)
    assert await admin("verify") == 0
    lines = capsys.readouterr().err.splitlines()
    assert (len(lines), lines[-1]) == (21, "more keys are none of ours, and are left alone")


async def test_repartition_names_foreign_keys_and_goes_on(
    deployment: Deployment,
    admin: Admin,
    foreign: list[bytes],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.admin.quiet.LOOK_SECONDS", 0.01)
    async with deployment.projecting():
        await deployment.publish(step(10))
        await deployment.settled()
    assert await admin("repartition", "--to", "4", "--yes") == 0
    told = capsys.readouterr().err
    assert f"{deployment.keys.prefix}:view:\\xff\\xfe is no key of ours" in told
    assert f"{deployment.keys.prefix}:view:{{0}}:no:topic is no key of ours" in told
    assert await load_layout(deployment.redis, Keys(deployment.keys.prefix, 4)) == Layout(4)
    assert await deployment.redis.exists(foreign[0]) == 1


@pytest.mark.parametrize("command", ["verify", "rebuild"])
async def test_a_view_of_the_wrong_type_keeps_nobody_from_the_others(
    deployment: Deployment, admin: Admin, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    async with deployment.projecting():
        await deployment.publish(step(10), step(20, of="sound"))
        await deployment.settled()
    await deployment.redis.set(deployment.keys.view(Topic.parse("default:workflow:w")), "x", ex=600)
    await admin(command)
    told = capsys.readouterr()
    assert "unverifiable 1" in told.out
    assert "default:workflow:w" in told.err
    assert "is of the wrong type" in told.err
