"""Pages of other origins do not post; programs, own pages and allowed pages do."""

import httpx2
import pytest
from fastapi import APIRouter, FastAPI

from core.runtime.origins import OwnOriginPosts

HOST = "localhost:8000"


def _client(*allowed: str) -> httpx2.AsyncClient:
    router = APIRouter()

    @router.post("/upload")
    @router.get("/upload")
    async def upload() -> str:
        return "taken"

    app = FastAPI()
    app.include_router(router)
    app.add_middleware(OwnOriginPosts, allowed=allowed)
    _ = upload
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=f"http://{HOST}")


@pytest.mark.parametrize("origin", [None, f"http://{HOST}", f"https://{HOST}", "https://app.example"])
async def test_programs_own_pages_and_allowed_pages_post(origin: str | None) -> None:
    async with _client("https://app.example") as client:
        answer = await client.post("/upload", headers={"Origin": origin} if origin else {})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://localhost:8001", "http://localhost", "null", "", "https://app.example.evil"],
)
async def test_pages_of_other_origins_do_not_post(origin: str) -> None:
    async with _client("https://app.example") as client:
        answer = await client.post("/upload", headers={"Origin": origin})
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"
        assert "CORS_ORIGINS" in answer.json()["detail"]


async def test_reading_is_left_to_the_browsers_own_rules() -> None:
    async with _client() as client:
        assert (await client.get("/upload", headers={"Origin": "http://evil.example"})).status_code == 200


async def test_a_star_allows_every_page() -> None:
    async with _client("*") as client:
        assert (await client.post("/upload", headers={"Origin": "http://evil.example"})).status_code == 200
