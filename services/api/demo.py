"""The demo page."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

_PAGES: Final = Path(__file__).parent / "pages"


def demo_routes() -> APIRouter:
    """``/demo/streaming`` and what it loads."""
    router = APIRouter(include_in_schema=False)

    @router.get("/demo/streaming")
    async def page() -> FileResponse:
        return FileResponse(_PAGES / "demo.html", headers={"Cache-Control": "no-cache"})

    @router.get("/")
    async def root() -> RedirectResponse:
        return RedirectResponse("/demo/streaming")

    _ = (page, root)
    router.mount("/demo/assets", StaticFiles(directory=_PAGES), name="demo-assets")
    return router
