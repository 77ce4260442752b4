"""``pipai-admin dead``: what operators see of dead letters, and what they can do about them."""

import asyncio
import json
import sys
from typing import Any, NamedTuple

import pytest
from redis.asyncio import Redis

from core.log.keys import Keys
from services.admin.main import main
from tests.core.dead_letters import DeadEnd


class Ran(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


class Operator:
    """Somebody who runs ``pipai-admin dead``."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def __call__(self, *arguments: str) -> Ran:
        code = await asyncio.to_thread(main, ["dead", *arguments])
        said = self._capsys.readouterr()
        return Ran(code, said.out, said.err)


@pytest.fixture
def dead(
    redis_url: str, key_prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Operator:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("KEY_PREFIX", key_prefix)
    return Operator(capsys)


@pytest.fixture
async def dead_end(redis_url: str, key_prefix: str) -> Any:
    """Four letters of workflows, one of them of another topic, and one of a notification."""
    keys = Keys(key_prefix)
    async with Redis.from_url(redis_url, protocol=2) as redis:
        end = DeadEnd(redis, keys, keys.source("workflow:progress", 0))
        for number in (1, 2, 3, 4):
            await end.park(number, topic=b"workflow:v" if number == 3 else b"workflow:w", error=f"fault {number}")
        await DeadEnd(redis, keys, keys.source("notifications", 0)).park(9, type=b"notification")
        yield end


async def _listed(dead: Operator, *arguments: str) -> list[str]:
    ran = await dead("list", "--json", *arguments)
    assert ran.code == 0, ran.err
    return [json.loads(line)["id"] for line in ran.out.splitlines()]


@pytest.mark.usefixtures("dead_end")
async def test_list_shows_a_table_of_letters(dead: Operator) -> None:
    ran = await dead("list")
    head, first, *rest = ran.out.splitlines()
    assert head.split() == ["LETTER", "PARKED", "TRIED", "TYPE", "TOPIC", "ERROR"]
    place, _, tried, *told = first.split()
    assert (place, tried, told) == (
        "workflow:progress/1-0",
        "1",
        ["workflow_progress", "workflow:w", "ValueError:", "fault", "1"],
    )
    assert [line.split()[0] for line in rest[-2:]] == ["workflow:progress/4-0", "notifications/9-0"]


@pytest.mark.usefixtures("dead_end")
async def test_list_has_what_fits_the_filter(dead: Operator) -> None:
    assert await _listed(dead) == ["1-0", "2-0", "3-0", "4-0", "9-0"]
    assert await _listed(dead, "--source", "notifications") == ["9-0"]
    assert await _listed(dead, "--type", "notification") == ["9-0"]
    assert await _listed(dead, "--topic", "workflow:v") == ["3-0"]
    assert await _listed(dead, "--error", "FAULT 2") == ["2-0"]
    assert await _listed(dead, "--before", "2020-01-01T00:00:00Z") == []
    assert await _listed(dead, "--after", "2020-01-01T00:00:00Z", "--limit", "2") == ["1-0", "2-0"]


async def test_list_says_when_there_is_none(dead: Operator) -> None:
    """A table without rows leaves open whether it looked in the right place."""
    ran = await dead("list")
    assert (ran.code, len(ran.out.splitlines()), ran.err) == (0, 1, "no dead letters\n")
    assert (await dead("list", "--type", "notification")).err == "no dead letter is like that\n"


@pytest.mark.usefixtures("dead_end")
async def test_list_says_when_there_is_more(dead: Operator) -> None:
    assert "the first 4; --limit or --all shows more" in (await dead("list", "--limit", "4")).err
    assert (await dead("list", "--limit", "5")).err == ""
    ran = await dead("list", "--limit", "1", "--all")
    assert (len(ran.out.splitlines()), ran.err) == (6, "")


async def test_what_is_shown_cannot_command_a_terminal(dead: Operator, dead_end: DeadEnd) -> None:
    await dead_end.park(5, topic="workflow:\x1b[2J\u202e".encode(), error="\x1b[31mred\n" + "x" * 200)
    ran = await dead("list", "--error", "red")
    shown = await dead("show", "workflow:progress/5-0")
    assert "\x1b" not in ran.out + shown.out
    assert "\u202e" not in ran.out + shown.out
    assert len(ran.out.splitlines()) == 2
    assert r"\x1b[31mred\n" in shown.out


@pytest.mark.usefixtures("dead_end")
async def test_show_has_the_whole_event(dead: Operator) -> None:
    ran = await dead("show", "workflow:progress/3-0")
    assert ran.out.splitlines()[0] == "workflow:progress/3-0"
    assert '  data: {"workflow_id":"w","step":"s","progress":1}' in ran.out.splitlines()
    as_json = json.loads((await dead("show", "--json", "workflow:progress/3-0")).out)
    assert as_json["fields"]["topic"] == "workflow:v"


async def test_named_letters_are_redriven_or_purged(dead: Operator, dead_end: DeadEnd) -> None:
    redriven = await dead("redrive", "workflow:progress/2-0", "workflow:progress/1-0", "notifications/9-0")
    assert (redriven.code, redriven.out) == (0, "3 redriven\n")
    assert [entry.fields[b"redriven"] for entry in await dead_end.log()] == [
        b"workflow:progress 1-0",
        b"workflow:progress 2-0",
    ]
    purged = await dead("purge", "workflow:progress/3-0", "workflow:progress/7-7")
    assert (purged.code, purged.out) == (1, "1 purged\n1 not there: redriven, purged or pushed out before\n")
    assert await dead_end.ids() == ["4-0"]


async def test_letters_that_fit_are_redriven_up_to_the_limit(dead: Operator, dead_end: DeadEnd) -> None:
    ran = await dead("redrive", "--topic", "workflow:w", "--limit", "2")
    assert (ran.code, ran.out) == (0, "2 redriven\nmore are left, beyond --limit\n")
    assert await dead_end.ids() == ["3-0", "4-0"]
    ran = await dead("purge", "--source", "workflow:progress", "--json")
    counts = {"purged": 2, "refused": 0, "gone": 0}
    assert json.loads(ran.out) == {**counts, "more": False, "sources": {"workflow:progress": counts}}


@pytest.mark.usefixtures("dead_end")
async def test_what_another_has_redriven_is_told_apart(dead: Operator) -> None:
    places = ("workflow:progress/1-0", "workflow:progress/2-0")
    assert (await dead("redrive", *places)).out == "2 redriven\n"
    ran = await dead("redrive", *places, "workflow:progress/3-0")
    assert (ran.code, ran.out) == (0, "1 redriven\n2 redriven by somebody else just before\n")


@pytest.mark.parametrize("action", ["redrive", "purge"])
async def test_everything_is_dealt_with_after_a_yes_only(dead: Operator, dead_end: DeadEnd, action: str) -> None:
    ran = await dead(action, "--all")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("5 letters would be ")
    assert ran.err.endswith("; add --yes to do it\n")
    assert len(await dead_end.ids()) == 4

    assert (await dead(action, "--all", "--yes")).code == 0
    assert await dead_end.ids() == []
    assert len(await dead_end.log()) == (4 if action == "redrive" else 0)


async def test_an_event_that_cannot_be_redriven_is_told(dead: Operator, dead_end: DeadEnd) -> None:
    await dead_end.park_raw(5, {b"%d" % number: b"" for number in range(2000)})
    ran = await dead("redrive", "workflow:progress/5-0")
    assert (ran.code, ran.out.splitlines()[1]) == (
        1,
        "1 refused: their events have more fields than can be copied, or a version this build cannot read; purge them",
    )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("redrive",), "say which letters"),
        (("redrive", "--all", "--yes", "--type", "x"), "say which letters"),
        (("purge", "workflow:progress/1-0", "--all", "--yes"), "say which letters"),
        (("purge", "workflow:progress/1-0", "--type", "x"), "say which letters"),
        (("purge", "1-0"), "1-0: must be like workflow:progress/1735689600000-0"),
        (("show", "mail/1-0"), "mail/1-0: there is no source 'mail'; there are ai:progress, "),
        (("show", "workflow:progress/7-7"), "there is no dead letter workflow:progress/7-7"),
        (("list", "--source", "mail"), "there is no source 'mail'"),
        (("list", "--before", "yesterday"), "--before: must be an RFC 3339 time"),
    ],
)
async def test_a_command_that_is_not_clear_changes_nothing(
    dead: Operator, dead_end: DeadEnd, arguments: tuple[str, ...], why: str
) -> None:
    ran = await dead(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert why in ran.err
    assert (len(await dead_end.ids()), await dead_end.log()) == (4, [])


@pytest.mark.parametrize("limit", ["0", "-1", "x"])
async def test_a_limit_is_a_number_from_one_on(dead: Operator, limit: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        await dead("list", "--limit", limit)


async def test_redis_away_is_one_line_without_the_password(dead: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:secret@127.0.0.1:1")
    ran = await dead("redrive", "--source", "notifications")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert ran.err.startswith("redis://127.0.0.1:1: ")
    assert "secret" not in ran.err


@pytest.mark.usefixtures("dead", "dead_end")
async def test_the_program_runs_by_itself() -> None:
    command = [sys.executable, "-m", "services.admin", "dead", "list", "--json", "--topic", "workflow:v"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert (process.returncode, json.loads(out)["id"]) == (0, "3-0")
