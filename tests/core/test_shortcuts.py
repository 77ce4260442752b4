"""The short way to an endpoint answers as the long one does."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import APIRouter, Request, Response
from starlette.types import Message, Scope

from core.runtime.http import HttpService, PathId, create_app
from core.runtime.problems import ProblemError
from core.runtime.shortcuts import Shortcuts

BODY = b"hello"


async def _endpoint(request: Request, name: str) -> Response:
    match name:
        case "refused":
            raise ProblemError(409, "no", "No", "not this one", headers={"Retry-After": "7"})
        case "broken":
            raise ZeroDivisionError
        case _:
            return Response(f"short {name} {await request.body()!r}", status_code=202)


async def _read(request: Request, name: str) -> Response | None:
    return None if request.query_params else Response(f"short {name}")


@asynccontextmanager
async def _lifespan() -> AsyncGenerator[None]:
    yield


async def _ready() -> None:
    return None


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    router = APIRouter()

    @router.post("/things/{name}")
    async def long(name: PathId) -> Response:
        return Response(f"long {name}")

    @router.get("/things/{name}")
    async def read(name: PathId, x: int) -> Response:
        return Response(f"long {name} {x}")

    assert long
    assert read
    service = HttpService("things", router, _lifespan, _ready, {"POST /things": _endpoint, "GET /things": _read})
    transport = httpx2.ASGITransport(create_app(service, title="things"), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize(("segment", "name"), [("a", "a"), ("a%2Fb", "a/b"), ("%25", "%"), ("100%", "100%")])
async def test_a_post_to_an_id_takes_the_short_way(client: httpx2.AsyncClient, segment: str, name: str) -> None:
    answer = await client.post(f"/things/{segment}?x=1", content=BODY)

    assert (answer.status_code, answer.text) == (202, f"short {name} {BODY!r}")


async def test_what_is_no_plain_post_to_an_id_takes_the_long_way(client: httpx2.AsyncClient) -> None:
    for segment, status in (("a%0Ab", 422), ("%FF", 422), ("a/b", 404), ("", 404)):
        answer = await client.post(f"/things/{segment}", content=BODY)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await client.put("/things/a")).status_code == 405
    assert (await client.get("/livez")).status_code == 200


async def test_an_endpoint_may_leave_a_request_to_the_long_way(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/things/a")).text == "short a"
    assert (await client.get("/things/a?x=1")).text == "long a 1"
    assert (await client.get("/things/a?x=one")).status_code == 422


async def test_a_refusal_is_a_problem_report(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/things/refused", content=BODY)

    assert (answer.status_code, answer.headers["retry-after"]) == (409, "7")
    assert answer.json()["type"] == "/problems/no"


async def test_a_fault_of_ours_is_a_problem_report_too(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/things/broken", content=BODY)

    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/internal"


async def test_pages_of_other_origins_are_refused_on_the_short_way(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/things/a", content=BODY, headers={"origin": "http://elsewhere"})

    assert answer.status_code == 403


async def test_a_client_that_is_gone_is_not_answered() -> None:
    """And the server does not log a fault."""
    shortcuts = Shortcuts(create_app(title="none"), {"POST /things": _endpoint, "GET /things": _read})
    scope: Scope = {"type": "http", "method": "POST", "path": "/things/gone", "headers": []}
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await shortcuts(scope, receive, send)

    assert sent == []
