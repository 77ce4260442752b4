"""``GET /stream/metadata``: what clients and CDNs may keep, unlike the streams themselves."""

from hashlib import blake2b
from typing import Annotated, Final

from fastapi import APIRouter, Header, Response

from pipai_contracts.metadata import StreamMetadata, stream_metadata
from services.api.settings import ApiSettings
from services.api.views import is_current

_MAX_AGE: Final = 300
"""Seconds a cache may answer by itself after the settings were changed."""


def metadata_routes(settings: ApiSettings) -> APIRouter:
    """The endpoint; its answer is the same as long as the process runs."""
    router = APIRouter(tags=["streams"])
    metadata = stream_metadata(
        heartbeat=settings.heartbeat_interval,
        reconnect_interval=settings.reconnect_interval,
        max_reconnect_attempts=settings.max_reconnect_attempts,
    )
    body = metadata.model_dump_json().encode()
    etag = f'"{blake2b(body, digest_size=8).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": f"public, max-age={_MAX_AGE}"}

    @router.get("/stream/metadata", response_model=StreamMetadata)
    async def answer(if_none_match: Annotated[str | None, Header()] = None) -> Response:
        """Event types with their JSON Schemas, and what a client needs to connect and come back; 304 by ETag."""
        if is_current(etag, if_none_match):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    _ = answer
    return router
