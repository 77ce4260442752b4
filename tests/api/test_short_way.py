"""A stream is opened by a short way past the framework: nobody can tell from the answer."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from services.api import streams
from tests.api.conftest import Api, Producer, Serve

UNKNOWN = "nothing=1"
"""A parameter nobody knows: it changes nothing, and the short way leaves it to the framework."""

ADDRESSES = [
    "/stream/workflow/w",
    "/stream/workflow/%77",
    "/stream/workflow/a%2Fb%20c",
    "/stream/file/f",
    "/stream/user/u",
    "/stream/workflow/w?cursor=0",
    "/stream/workflow/w?cursor=",
    "/stream/workflow/w?cursor=0&cursor=nonsense",
    "/stream/workflow/w?cursor=nonsense&cursor=0",
    "/stream/workflow/w?cursor=nonsense",
    "/stream/workflow/w?cursor=abcdef01.7",
    "/stream/workflow/w?from=beginning",
    "/stream/workflow/w?from=2",
    "/stream/workflow/w?from=",
    "/stream/workflow/w?from=2000-01-01T00:00:00+01:00",
    "/stream/workflow/w?from=2000-01-01T00:00:00%2B01:00",
    "/stream/workflow/w?from=yesterday",
    "/stream/workflow/w?types=workflow_progress,notification",
    "/stream/workflow/w?types=workflow_progress&types=notification",
    "/stream/workflow/w?types=",
    "/stream/workflow/w?types=nonsense",
    "/stream/workflow/w?throttle_ms=500&batch_ms=100",
    "/stream/workflow/w?throttle_ms=",
    "/stream/workflow/w?throttle_ms=60001",
    "/stream/workflow/w?throttle_ms=-1",
    "/stream/workflow/w?throttle_ms=1.5",
    "/stream/workflow/w?batch_ms=soon",
    "/stream/workflow/w?batch_ms=1&batch_ms=2",
    "/stream/workflow/w%0A",
    "/stream/workflow/%FF",
    "/stream/workflow/",
    "/stream/machine/w",
]
HEADERS: list[Mapping[str, str]] = [
    {"Last-Event-ID": "0"},
    {"Last-Event-ID": "nonsense"},
    {"Last-Event-ID": ""},
    {"Last-Event-ID": "\xe4"},
    {"Accept-Encoding": "gzip"},
    {"Accept-Encoding": "gzip;q=0, br"},
    {"Origin": "http://page.example"},
    {"Origin": "http://other.example"},
]


async def _answer(api: Api, target: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str], Any]:
    """Status, headers and what the body begins with, without what differs from one request to the next."""
    sent = [(name, value.encode("latin-1")) for name, value in headers.items()]
    async with api.client.stream("GET", target, headers=[(name.encode(), value) for name, value in sent]) as answer:
        told = {name: value for name, value in answer.headers.items() if name != "date"}
        if not told.get("content-type", "").startswith("text/event-stream"):
            return answer.status_code, told, json.loads(await answer.aread() or b"null")
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                data = json.loads(line.removeprefix("data:"))
                return answer.status_code, told, {name: value for name, value in data.items() if name != "timestamp"}
    raise AssertionError(f"nothing came from {target}")


@pytest.mark.parametrize(
    ("target", "headers"),
    [*((target, {}) for target in ADDRESSES), *((ADDRESSES[0], headers) for headers in HEADERS)],
    ids=str,
)
async def test_the_short_way_answers_as_the_long_one_does(
    serve: Serve, producer: Producer, target: str, headers: Mapping[str, str]
) -> None:
    await producer.progress("w", 1, 2, 3)
    async with serve(cors_origins="http://page.example") as api:
        short = await _answer(api, target, headers)
        assert short == await _answer(api, f"{target}{'&' if '?' in target else '?'}{UNKNOWN}", headers)


async def test_a_plain_reconnect_takes_the_short_way(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the table above compares one way with itself."""
    taken: list[str] = []
    plainly = streams.asked_plainly

    def look(request: Any) -> Any:
        asked = plainly(request)
        taken.append("long" if asked is None else "short")
        return asked

    monkeypatch.setattr(streams, "asked_plainly", look)
    for target in ("/stream/workflow/w?cursor=0", "/stream/user/u?throttle_ms=100", "/stream/file/f?nothing=1"):
        async with api.watching(target, {"Last-Event-ID": "0", "Accept-Encoding": "gzip"}, read=False):
            pass
    assert taken == ["short", "short", "long"]
