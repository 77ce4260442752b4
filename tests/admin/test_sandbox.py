"""A slice of history is folded once more beside the deployment, which does not notice."""

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from pydantic_core import from_json, to_json
from redis.asyncio import Redis

import core
from core.log.dead import DeadLetters
from core.log.keys import Keys
from core.log.read import read_entries
from core.log.scan import keys_beginning
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING
from tests.admin.conftest import Admin
from tests.archiver.conftest import Archived, archived
from tests.conftest import wait_until
from tests.core.telling import ai, notice, step
from tests.projector.conftest import Deployment, deployed
from tests.projector.random_run import random_run

__all__ = ["archived"]


async def _all_of(redis: Redis, prefix: str) -> dict[str, bytes | None]:
    """Every key of a deployment with its content."""
    names = [key for start in Keys(prefix).starts async for key in keys_beginning(redis, start)]
    return {name: await redis.dump(name) for name in names}


async def _at_rest(deployment: Deployment) -> None:
    """Wait until the projectors are forgotten: what they leave goes by itself."""

    async def forgotten() -> bool:
        return not await deployment.redis.exists(deployment.keys.lease(0))

    await wait_until(forgotten)


async def _progress_in(deployment: Deployment, prefix: str) -> float:
    """How far the workflow is, as the sandbox has it."""
    key = Keys(prefix).view(Topic("default", "workflow", "w"))
    return from_json((await deployment.redis.hget(key, "state")) or b"")["progress"]


async def _change(redis: Redis, keys: Keys, topic: str, **fields: object) -> None:
    key = keys.view(Topic.parse(f"default:{topic}"))
    state = from_json((await redis.hget(key, "state")) or b"")
    await redis.hset(key, "state", to_json({**state, **fields}))


@pytest.fixture
def without_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_URL", "off")


@pytest.mark.usefixtures("without_archive")
async def test_a_sandbox_has_the_same_views_and_the_deployment_stays_as_it_was(
    any_deployment: Deployment,
    admin: Admin,
    other_prefix: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deployment, partitions = any_deployment, any_deployment.keys.partitions
    async with deployment.projecting():
        await deployment.publish(*random_run(3, 300))
        views = await deployment.settled()
    await _at_rest(deployment)
    before = await _all_of(deployment.redis, deployment.keys.prefix)
    monkeypatch.setenv("STREAM_MAX_ENTRIES", "20")
    assert await admin("replay", "--into", other_prefix, "--once", partitions=partitions) == 0
    copied = [
        await deployment.redis.xlen(source.key) == await deployment.redis.xlen(own.key)
        for source, own in zip(Keys(other_prefix, partitions).sources(), deployment.keys.sources(), strict=True)
    ]
    assert all(copied)  # a sandbox has no archive, so it trims nothing
    assert await admin("verify", "--against", other_prefix, partitions=partitions) == 0
    assert f"verified {views}, different 0, unverifiable 0" in capsys.readouterr().out
    assert await _all_of(deployment.redis, deployment.keys.prefix) == before

    assert await admin("replay", "--drop", other_prefix, partitions=partitions) == 0
    assert await _all_of(deployment.redis, other_prefix) == {}
    assert await _all_of(deployment.redis, deployment.keys.prefix) == before


async def test_what_redis_has_no_longer_is_replayed_from_the_archive(
    archived: Archived,
    other_prefix: str,
    admin: Admin,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deployment = archived.deployment
    async with deployment.projecting(), archived.archiving():
        await deployment.publish(*(step(n, of=f"w{n % 3}").by("ada") for n in range(60)), notice("ada"))
        await archived.settled()
    await deployment.redis.xtrim(deployment.source().key, maxlen=5, approximate=False)
    monkeypatch.setenv("ARCHIVE_URL", archived.settings.archive_url)
    monkeypatch.setenv("ARCHIVE_SPOOL", archived.settings.archive_spool)
    assert await admin("replay", "--into", other_prefix, "--once") == 0
    assert "61 events" in capsys.readouterr().out
    assert await admin("verify", "--against", other_prefix) == 0
    assert "verified 4, different 0" in capsys.readouterr().out


@pytest.mark.usefixtures("without_archive")
async def test_a_changed_fold_of_another_checkout_is_seen_in_its_views(
    deployment: Deployment,
    admin: Admin,
    other_prefix: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with deployment.projecting():
        await deployment.publish(ai("hello"), ai(of="silent"))
        await deployment.settled()
    checkout = tmp_path / "checkout"
    shutil.copytree(Path(core.__file__).parent, checkout / "core")
    fold = checkout / "core" / "views" / "workflow.py"
    text = fold.read_text()
    assert "(event.delta or" in text
    fold.write_text(text.replace("(event.delta or", "((event.delta or '').upper() or"))
    monkeypatch.syspath_prepend(checkout)
    assert await admin("replay", "--into", other_prefix, "--once") == 0
    capsys.readouterr()
    assert await admin("verify", "--against", other_prefix, "--json") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"topic": "default:workflow:w", "path": "ai.text", "live": "hello", "sandbox": "HELLO"} in lines
    assert lines[-1] == {"verified": 2, "different": 1, "unverifiable": 0}


@pytest.mark.usefixtures("without_archive")
async def test_a_slice_is_compared_with_what_this_build_makes_of_the_slice(
    deployment: Deployment, admin: Admin, other_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The live view knows what came before the slice, and goes on after it."""
    async with deployment.projecting():
        for number in (1, 2, 3):
            await deployment.publish(step(number).by("ada"), ai("x", of="w"), step(number, of="other"))
            await deployment.settled()
    entries = await read_entries(deployment.redis, deployment.source(), after=BEGINNING, count=9)
    [start, end] = [entries[number].stream_id.time for number in (2, 4)]
    range_ = ("--from", start, "--to", end, "--kind", "workflow", "--id", "w")
    assert await admin("replay", "--into", other_prefix, "--once", *range_) == 0
    out = capsys.readouterr().out
    assert "2 events" in out
    assert await admin("verify", "--against", other_prefix) == 0
    assert "verified 2, different 0, unverifiable 0" in capsys.readouterr().out  # the workflow, and its owner's

    await _change(deployment.redis, Keys(other_prefix), "workflow:w", message="changed")
    assert await admin("verify", "workflow", "--against", other_prefix) == 1
    assert 'default:workflow:w message: live null, sandbox "changed"' in capsys.readouterr().out


@pytest.mark.usefixtures("without_archive")
async def test_parked_events_stay_out(
    deployment: Deployment, admin: Admin, other_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with deployment.projecting():
        await deployment.publish(step(10))
        await deployment.redis.xadd(
            deployment.source().key, {"tenant": "default", "topic": "workflow:w", "type": "workflow_progress"}
        )
        await deployment.publish(step(20))
        await wait_until(deployment.letters)
        await deployment.settled()
    [first, *_] = await read_entries(deployment.redis, deployment.source(), after=BEGINNING, count=1)
    await DeadLetters(deployment.redis, deployment.keys).park(deployment.source(), first, ValueError("by hand"))
    assert await admin("replay", "--into", other_prefix, "--once") == 0
    assert "1 event of" in (out := capsys.readouterr().out)
    assert "2 left out" in out
    assert await admin("verify", "--against", other_prefix) == 0
    assert await _progress_in(deployment, other_prefix) == 20


@pytest.mark.usefixtures("without_archive")
async def test_a_live_view_that_has_heard_the_same_is_compared_as_it_is(
    deployment: Deployment, admin: Admin, other_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with deployment.projecting():
        await deployment.publish(step(10))
        await deployment.settled()
    await _change(deployment.redis, deployment.keys, "workflow:w", message="of another build")
    assert await admin("replay", "--into", other_prefix, "--once") == 0
    assert await admin("verify", "--against", other_prefix) == 1
    assert 'message: live "of another build", sandbox null' in capsys.readouterr().out


@pytest.mark.usefixtures("without_archive")
async def test_names_that_are_taken_are_refused(
    deployment: Deployment, admin: Admin, other_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await deployment.publish(step(10))

    async def refused(*arguments: str) -> str:
        capsys.readouterr()
        assert await admin("replay", *arguments) == 2
        return capsys.readouterr().err

    assert "is the deployment itself" in await refused("--into", deployment.keys.prefix, "--fresh")
    assert "is the deployment itself" in await refused("--drop", deployment.keys.prefix)
    assert "can be no key prefix" in await refused("--into", "a:b")
    assert "is no sandbox that a replay made" in await refused("--drop", other_prefix)
    async with deployed(str(deployment.settings.redis_address()), other_prefix) as other:
        await other.publish(step(10))
        assert "stands under that name already" in await refused("--into", other_prefix, "--fresh")
        assert await other.redis.xlen(other.source().key) == 1
    assert await deployment.redis.xlen(deployment.source().key) == 1


@pytest.mark.usefixtures("without_archive")
async def test_a_sandbox_is_made_again_only_on_purpose(
    deployment: Deployment, admin: Admin, other_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await deployment.publish(step(10))
    assert await admin("replay", "--into", other_prefix, "--once") == 0
    assert await admin("replay", "--into", other_prefix, "--once") == 2
    assert "--fresh" in capsys.readouterr().err
    await deployment.publish(step(20))
    assert await admin("replay", "--into", other_prefix, "--once", "--fresh") == 0
    assert "2 events" in capsys.readouterr().out


@pytest.mark.usefixtures("without_archive")
async def test_too_much_is_refused_and_leaves_nothing(deployment: Deployment, admin: Admin, other_prefix: str) -> None:
    await deployment.publish(*(step(number) for number in range(5)))
    assert await admin("replay", "--into", other_prefix, "--once", "--limit", "4") == 2
    assert await _all_of(deployment.redis, other_prefix) == {}


async def test_nothing_can_be_compared_before_there_is_a_sandbox(
    deployment: Deployment, admin: Admin, other_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await admin("verify", "--against", other_prefix) == 2
    assert f"there is no sandbox {other_prefix}" in capsys.readouterr().err
    await deployment.redis.set(Keys(other_prefix).sandbox, '{"of": "x", "partitions": 1, "since": null, "until": 1}')
    assert await admin("verify", "--against", other_prefix) == 2
    assert "not whole" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)])
@pytest.mark.usefixtures("without_archive", "admin")
async def test_its_api_serves_until_the_command_ends_however_that_is(
    deployment: Deployment, other_prefix: str, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    await deployment.publish(step(10, of="my workflow"))
    said, log = tmp_path / "said", tmp_path / "log"
    with said.open("wb") as out, log.open("wb") as err:
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.admin", "replay", "--into", other_prefix,
            env={**os.environ, "STREAM_PARTITIONS": "1"}, stdout=out, stderr=err,
        )  # fmt: skip
    try:
        await wait_until(lambda: "all of it is projected" in said.read_text(), 30)
        base = said.read_text().partition("its api: ")[2].partition("/docs")[0]
        view = f"{base}/views/workflow/my%20workflow"
        answer = await wait_until(lambda: asyncio.to_thread(_answer, view), 30)
        assert answer["view"]["progress"] == 10
    finally:
        program.send_signal(number)
        assert await asyncio.wait_for(program.wait(), 30) == code
    await wait_until(lambda: asyncio.to_thread(lambda: _answer(view) is None), 30)
    await wait_until(lambda: _nobody_projects(deployment.redis, other_prefix), 30)


def _answer(url: str) -> Any:
    """The JSON there; None where nobody listens."""
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310
            return json.load(answer)
    except OSError:
        return None


async def _nobody_projects(redis: Redis, prefix: str) -> bool:
    return not await redis.exists(Keys(prefix).lease(0))
