"""What every HTTP service shares: composition, probes and problem reports."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import APIRouter
from pydantic import BaseModel, ValidationError

from core.runtime.http import HttpService, PathId, create_app
from core.runtime.problems import MAX_FAULTS, ProblemError, invalid


def _service(name: str, told: list[str], missing: str | None = None) -> HttpService:
    """A service with an endpoint for each way to answer; `told` hears of its beginning and end."""
    router = APIRouter(prefix=f"/{name}")

    @router.get("/echo/{item_id}")
    async def echo(item_id: PathId, number: int = 0) -> dict[str, str | int]:
        return {"id": item_id, "number": number}

    @router.get("/refused")
    async def refused() -> None:
        raise ProblemError(409, "taken", "Taken", "somebody has it", headers={"Retry-After": "7"})

    @router.get("/broken")
    async def broken() -> None:
        raise LookupError("confidential")

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        told.append(f"{name} begins")
        yield
        told.append(f"{name} ends")

    async def ready() -> str | None:
        return missing

    _ = (echo, refused, broken)
    return HttpService(name, router, lifespan, ready)


def _client(*services: HttpService) -> httpx2.AsyncClient:
    app = create_app(*services, title="test")
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://test")


async def test_services_begin_in_order_and_end_in_reverse() -> None:
    told: list[str] = []
    app = create_app(_service("a", told), _service("b", told), title="test")
    async with app.router.lifespan_context(app):
        assert told == ["a begins", "b begins"]
    assert told[2:] == ["b ends", "a ends"]


async def test_an_app_is_ready_when_all_its_services_are() -> None:
    async with _client(_service("a", []), _service("b", [])) as client:
        assert (await client.get("/readyz")).json() == {"status": "ready"}
    async with _client(_service("a", []), _service("b", [], missing="no Redis")) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["detail"] == "b: no Redis"
        assert (await client.get("/livez")).status_code == 200


async def test_the_path_is_decoded_once_and_the_query_is_no_part_of_it() -> None:
    async with _client(_service("a", [])) as client:
        answer = await client.get("/a/echo/%252F%2F%3Fx?number=3")
        assert answer.json() == {"id": "%2F/?x", "number": 3}


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/a/refused", 409, "taken"),
        ("/a/echo/x?number=many", 422, "invalid"),
        ("/none", 404, "not-found"),
        ("/a/broken", 500, "internal"),
    ],
)
async def test_every_refusal_is_a_problem_report(path: str, status: int, kind: str) -> None:
    async with _client(_service("a", [])) as client:
        answer = await client.get(path)
    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"/problems/{kind}"
    assert problem["title"]
    assert "confidential" not in answer.text


async def test_a_refusal_says_where_and_keeps_its_headers() -> None:
    async with _client(_service("a", [])) as client:
        [fault] = (await client.get("/a/echo/x?number=many")).json()["errors"]
        assert fault["where"] == "query.number"
        assert (await client.get("/a/refused")).headers["retry-after"] == "7"


async def test_a_report_lists_a_bounded_number_of_faults() -> None:
    class Many(BaseModel, extra="forbid"):
        pass

    with pytest.raises(ValidationError) as caught:
        Many.model_validate({f"field{number}": 1 for number in range(1000)})

    assert len(invalid(caught.value).problem.errors) == MAX_FAULTS
