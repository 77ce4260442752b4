"""People look into the history from a terminal."""

import asyncio
import csv
import json
import sys
from io import StringIO

import pytest

from pipai.service import Service
from pipai_contracts.events import Notification
from tests.api.conftest import Api, Producer
from tests.client.conftest import Pipai, answering


async def test_the_table_says_when_and_what(pipai: Pipai, producer: Producer) -> None:
    await producer.progress("w", 10, 100, run_id="r", user_id="ada", message="on its way")
    said = await pipai("history", "workflow:w")
    assert (said.code, said.err) == (0, "")
    head, first, second = said.out.splitlines()
    assert head.split() == ["TIME", "(UTC)", "TOPIC", "EVENT", "WHAT"]
    assert first.split()[0].endswith("Z")
    assert first.split()[1:] == ["workflow:w", "workflow_progress", "10", "%", "work", "on", "its", "way"]
    assert " 100 %  work  on its way" in second


async def test_json_lines_are_the_events_as_the_api_gives_them(
    pipai: Pipai, api: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await producer.progress("w", 10, 33.3, message="ümläut 😀")
    events = (await api.client.get("/history/events", params={"id": "w"})).json()["events"]
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    said = await pipai("history", "--id", "w", "--format", "jsonl")
    assert [json.loads(line) for line in said.out.splitlines()] == events
    assert "ümläut 😀" in said.out


@pytest.mark.parametrize("asked", [("history", "workflow:w", "--format", "jsonl"), ("view", "workflow:w")])
async def test_no_event_commands_the_terminal_it_is_shown_in(
    pipai: Pipai, producer: Producer, asked: tuple[str, ...]
) -> None:
    """Escape sequences have a form of one byte each, and text can be made to run backwards."""
    told = "a\x1b[31mb\x9b31mc\u202ed\u2028e"
    await producer.progress("w", 10, message=told)
    said = await pipai(*asked)
    assert [character for character in said.out if not character.isprintable() and character != "\n"] == []
    assert json.dumps(told)[1:-1] in said.out


async def test_csv_has_a_column_for_each_thing_told(pipai: Pipai, producer: Producer) -> None:
    await producer.progress("w", 10, message='a "quoted", long\nmessage')
    said = await pipai("history", "--kind", "workflow", "--format", "csv")
    [row] = csv.DictReader(StringIO(said.out))
    assert (row["topic"], row["progress"], row["step"], row["parked"]) == ("workflow:w", "10", "work", "false")
    assert row["message"] == 'a "quoted", long\nmessage'
    assert row["user_id"] == ""


async def test_csv_commands_no_terminal(pipai: Pipai, producer: Producer) -> None:
    await producer.progress("w", 10, message="\x1b[31m red \u202e back\x9b\ttab")
    [row] = csv.DictReader(StringIO((await pipai("history", "--format", "csv")).out))
    assert row["message"] == "\ufffd[31m red \ufffd back\ufffd\ttab"


async def test_all_pages_are_read_and_a_limit_ends_them(api: Api, producer: Producer) -> None:
    await producer.progress("w", *range(7))

    def offsets(limit: int | None) -> list[int]:
        with Service(f"http://127.0.0.1:{api.port}/") as service:
            return [event["offset"] for event in service.events({"id": "w"}, page=3, limit=limit)]

    assert await asyncio.to_thread(offsets, None) == [1, 2, 3, 4, 5, 6, 7]
    assert await asyncio.to_thread(offsets, 5) == [1, 2, 3, 4, 5]


async def test_what_reads_no_further_is_no_error(api: Api, producer: Producer) -> None:
    await producer.progress("w", *range(3), message="x" * 100_000)
    command = f"{sys.executable} -m pipai history --format jsonl --url http://127.0.0.1:{api.port} | head -c 10"
    shell = await asyncio.create_subprocess_shell(
        command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await shell.communicate()
    assert (len(out), err) == (10, b"")


async def test_filters_are_passed_on(pipai: Pipai, producer: Producer) -> None:
    await producer.progress("w", 10, user_id="ada")
    await producer.publish(Notification(user_id="bob", title="n", message="m"))

    async def count(*arguments: str) -> int:
        return len((await pipai("history", "--format", "jsonl", *arguments)).out.splitlines())

    assert await count("--user", "ada") == 1
    assert await count("--type", "notification") == 1
    assert await count("--from", "2025-01-01T00:00:00+02:00") == 2
    assert await count("--to", "2025-01-01T00:00:00Z") == 0


async def test_nothing_found_is_said(pipai: Pipai) -> None:
    assert (await pipai("history", "workflow:none")).err == "no event is like that\n"


async def test_what_the_api_refuses_is_one_line(pipai: Pipai) -> None:
    said = await pipai("history", "--id", "x" * 300)
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert "query.id" in said.err


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1", "http://[", "http://127.0.0.1:99999"])
async def test_an_address_that_is_none_is_one_line(pipai: Pipai, url: str) -> None:
    said = await pipai("history", "--url", url)
    assert said.code == 2
    assert said.err.startswith(f"{url} cannot be reached: ")
    assert said.err.count("\n") == 1


async def test_what_is_no_api_of_ours_is_one_line(pipai: Pipai) -> None:
    for body in ("<html>", "[]", "{}", "null"):
        async with answering("text/html", body) as (url, _):
            said = await pipai("history", "--url", url)
        assert (said.code, said.out) == (2, "")
        assert "is no PIP AI Stream" in said.err
        assert said.err.count("\n") == 1


async def test_an_api_that_is_not_there_is_one_line(pipai: Pipai, unused_tcp_port: int) -> None:
    said = await pipai("history", "--url", f"http://127.0.0.1:{unused_tcp_port}")
    assert said.code == 2
    assert said.err.startswith(f"http://127.0.0.1:{unused_tcp_port} cannot be reached: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["planet:w"], "is no topic"),
        (["workflow:w", "--id", "x"], "name the topic once"),
        (["--from", "yesterday"], "RFC 3339"),
        (["--limit", "0"], "must be a number from 1 on"),
    ],
)
async def test_nonsense_is_refused_before_anything_is_asked(pipai: Pipai, arguments: list[str], why: str) -> None:
    said = await pipai("history", *arguments)
    assert said.code == 2
    assert why in said.err
