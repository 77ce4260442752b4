"""Taking a document in: stored, handed to Temporal, announced. All of it or nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import Final, NamedTuple
from uuid import uuid4

from obstore.exceptions import BaseError as StorageError

from core.documents import HEAD_BYTES, identify
from core.log.errors import LogUnavailableError
from core.runtime.clock import now
from core.runtime.logs import get_logger
from core.runtime.storage import DOCUMENTS, Storage
from pipai_contracts.analysis import DocumentAnalysisInput
from pipai_contracts.envelope import Envelope
from pipai_contracts.events import AnalysisProgress, WorkflowProgress
from pipai_contracts.ids import check_id
from services.ingest.form import FieldError, PartHead, UploadForm
from services.ingest.metrics import UPLOADED_BYTES
from services.ingest.publisher import Publisher
from services.ingest.temporal import Temporal


class StorageAwayError(Exception):
    """The storage does not take files right now."""


MAX_FILENAME: Final = 255

_log = get_logger()


class Taken(NamedTuple):
    """A document that is on its way, by the ids its progress is published under."""

    file_id: str
    workflow_id: str


class Intake:
    """Takes documents in."""

    def __init__(self, storage: Storage, temporal: Temporal, publisher: Publisher, *, max_bytes: int) -> None:
        self._storage = storage
        self._temporal = temporal
        self._publisher = publisher
        self._max_bytes = max_bytes

    async def require(self) -> None:
        """Make sure that a document could be taken in, before its bytes are.

        Raises:
            LogUnavailableError: Redis is away, or too many events are in no view yet.
            TemporalAwayError: Temporal is away or not configured.
        """
        await self._publisher.require()
        await self._temporal.require()

    async def take(self, form: UploadForm) -> Taken:
        """Store the form's file and start its analysis. When anything fails the file is gone again.

        Raises:
            FormError: the form is not as it should be.
            DocumentError: the file is of no kind that is read.
            FileTooLargeError: the file is larger than allowed.
            StorageAwayError: the file could not be written.
            TemporalAwayError: Temporal did not take it.
        """
        head = await form.next_file()
        if head is None:
            raise FieldError("file", "must be there, as a file")
        if head.name != "file":
            raise FieldError(head.name, "is not expected here; send one file, named file")
        filename = plain_filename(head.filename or "")
        start, chunks = await _begin(form)
        identify(start, filename, head.content_type)
        file_id = uuid4().hex
        key = f"{DOCUMENTS}/{file_id}"
        try:
            size = await self._storage.put(key, chunks, self._max_bytes)
            document = await self._describe(form, file_id, key, head, filename)
            run_id = await self._temporal.start_analysis(document)
        except BaseException as error:
            await asyncio.shield(self._discard(key))
            if isinstance(error, StorageError):
                raise StorageAwayError("the file could not be written") from error
            raise
        UPLOADED_BYTES.inc(size)
        await self._announce(document, run_id)
        return Taken(document.file_id, document.workflow_id)

    async def _discard(self, key: str) -> None:
        """Delete what there is of a refused file; if that fails the janitor does it later."""
        try:
            await self._storage.delete(key)
        except StorageError as error:
            _log.warning("stream upload left a file behind", key=key, reason=str(error))

    async def _describe(
        self, form: UploadForm, file_id: str, key: str, head: PartHead, filename: str
    ) -> DocumentAnalysisInput:
        """What the workflow needs to know; reads the form to its end for fields that come after the file."""
        if await form.next_file() is not None:
            raise FieldError("file", "must be one file")
        for name in form.fields:
            if name != "user_id":
                raise FieldError(name, "is not expected here")
        user_id = form.fields.get("user_id") or None
        if user_id is not None:
            try:
                check_id(user_id)
            except ValueError as error:
                raise FieldError("user_id", str(error)) from error
        return DocumentAnalysisInput(
            workflow_id=f"document-{file_id}",
            file_id=file_id,
            user_id=user_id,
            storage_key=key,
            filename=filename,
            content_type=head.content_type[:200] if head.content_type else None,
        )

    async def _announce(self, document: DocumentAnalysisInput, run_id: str) -> None:
        """Say that the document waits for a worker, so that viewers see it and its owner is remembered.

        After the start, not before: of a document Temporal did not take no event may remain. A Redis that goes
        away just now does not undo the start: the worker tells the same with its first event.
        """
        moment = now()
        events = (
            WorkflowProgress(
                workflow_id=document.workflow_id, step="queued", progress=0, message="Waiting for a worker"
            ),
            AnalysisProgress(file_id=document.file_id, step="queued", progress=0, message="Waiting for a worker"),
        )
        try:
            await self._publisher.publish(
                [
                    Envelope(
                        event_id=f"{run_id}:queued",
                        tenant=document.tenant,
                        user_id=document.user_id,
                        run_id=run_id,
                        time=moment,
                        event=event,
                    )
                    for event in events
                ]
            )
        except LogUnavailableError:
            _log.warning("stream did not get the first events", workflow_id=document.workflow_id)


def plain_filename(name: str) -> str:
    """The sender's file name without folders and without what cannot be shown; only ever data, never a path."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return "".join(character for character in last if character.isprintable())[-MAX_FILENAME:] or "document"


async def _begin(form: UploadForm) -> tuple[bytes, AsyncIterator[bytes]]:
    """The file's first bytes, enough to tell its kind, and all of its bytes from the beginning."""
    rest = form.file_bytes()
    start = b""
    async for chunk in rest:
        start += chunk
        if len(start) >= HEAD_BYTES:
            break

    async def everything() -> AsyncIterator[bytes]:
        yield start
        async for chunk in rest:
            yield chunk

    return start, everything()
