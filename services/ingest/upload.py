"""``POST /upload``: a document in, the addresses of its streams out."""

from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from core.documents import DocumentError, UnsupportedError
from core.log.errors import LogUnavailableError
from core.log.layout import LayoutError
from core.runtime.memory import EvictingRedisError
from core.runtime.problems import ProblemError
from core.runtime.storage import FileTooLargeError
from services.ingest.bodies import arriving, refuse_declared_length
from services.ingest.form import (
    OVERHEAD_BYTES,
    FieldError,
    FormTooLargeError,
    MalformedFormError,
    UploadForm,
    boundary_of,
)
from services.ingest.intake import Intake, StorageAwayError
from services.ingest.refusals import (
    CountedRoute,
    bad_body,
    documented,
    invalid_field,
    log_away,
    storage_away,
    temporal_away,
    too_large,
    unavailable,
    unsupported_file,
    wrong_content_type,
)
from services.ingest.temporal import TemporalAwayError


class Uploaded(BaseModel):
    """Answer of ``POST /upload``: the ids of the document and its analysis, and where to watch them."""

    model_config = ConfigDict(frozen=True)

    file_id: str
    workflow_id: str
    stream_url: str
    file_stream_url: str


_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "The document."},
                        "user_id": {"type": "string", "description": "Who owns its progress."},
                    },
                }
            }
        },
    }
}


def upload_router(intake: Intake, max_bytes: int) -> APIRouter:
    """The route that takes documents of at most ``max_bytes``."""
    router = APIRouter(tags=["upload"], route_class=CountedRoute)

    @router.post(
        "/upload",
        status_code=202,
        responses=documented(400, 408, 413, 415, 422, 503),
        openapi_extra=_FORM,
    )
    async def upload(request: Request) -> Uploaded:
        """Store a document and start its analysis."""
        content_type = request.headers.get("content-type", "")
        boundary = boundary_of(content_type)
        if boundary is None:
            raise wrong_content_type("multipart/form-data with a boundary", content_type)
        limit = max_bytes + OVERHEAD_BYTES
        refuse_declared_length(request, limit, "body")
        try:
            await intake.require()
            taken = await intake.take(UploadForm(arriving(request), boundary, limit))
        except Exception as error:
            refusal = _refusal(error, max_bytes)
            if refusal is None:
                raise
            raise refusal from error
        return Uploaded(
            file_id=taken.file_id,
            workflow_id=taken.workflow_id,
            stream_url=f"/stream/workflow/{taken.workflow_id}",
            file_stream_url=f"/stream/file/{taken.file_id}",
        )

    _ = upload  # called through the router only
    return router


def _refusal(error: Exception, max_bytes: int) -> ProblemError | None:
    """The problem report for what went wrong; None for what nobody expected."""
    match error:
        case MalformedFormError():
            refusal = bad_body(str(error))
        case FormTooLargeError() | FileTooLargeError():
            refusal = too_large("body.file", f"must have at most {max_bytes} bytes")
        case FieldError():
            refusal = invalid_field(f"body.{error.name[:100]}", error.what)
        case UnsupportedError():
            refusal = unsupported_file(str(error))
        case DocumentError():
            refusal = invalid_field("body.file", str(error))
        case LogUnavailableError():
            refusal = unavailable(error)
        case LayoutError() | EvictingRedisError():
            refusal = log_away()
        case TemporalAwayError():
            refusal = temporal_away(str(error))
        case StorageAwayError():
            refusal = storage_away()
        case _:
            return None
    return refusal
