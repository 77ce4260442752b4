"""The steps of the analysis, each an activity that can be tried again from its beginning."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from temporalio import activity
from temporalio.exceptions import ApplicationError

from core.documents import HEAD_BYTES, DocumentKind, identify
from core.runtime.storage import Storage
from pipai_contracts.analysis import AnalysisResult, DocumentAnalysisInput
from services.worker.ai.analyst import PAGE_BREAK, AiStep, Analyst
from services.worker.attempts import attempt
from services.worker.confined.limits import Limits
from services.worker.documents.extract import Page, extract
from services.worker.messages import Conclusion, Extraction, Text
from services.worker.metrics import DOCUMENTS
from services.worker.publisher import Publisher
from services.worker.reporter import Reporter
from services.worker.telling import Run

_CHUNK: Final = 1024 * 1024
_KIND_NAMES: Final[dict[DocumentKind, str]] = {
    "pdf": "PDF",
    "docx": "Word document",
    "html": "HTML page",
    "markdown": "Markdown text",
    "text": "Plain text",
}


@dataclass(frozen=True, slots=True)
class DocumentActivities:
    """The steps, with what they work with."""

    storage: Storage
    publisher: Publisher
    analyst: Analyst
    limits: Limits
    max_characters: int

    @activity.defn
    async def identify(self, document: DocumentAnalysisInput) -> DocumentKind:
        """Tell what kind of document the file is."""
        async with attempt(self.publisher, document, "identify") as reporter:
            await reporter.at(0, f"Looking at {document.filename}")
            head = await self.storage.head(document.storage_key, HEAD_BYTES)
            kind = identify(head, document.filename, document.content_type)
            await reporter.at(100, _KIND_NAMES[kind])
            return kind

    @activity.defn
    async def extract(self, extraction: Extraction) -> Text:
        """Read the document's text, page by page, into a file beside it in the storage."""
        document = extraction.document
        async with attempt(self.publisher, document, "extract") as reporter:
            with TemporaryDirectory(prefix="pipai-") as folder:
                source, target = Path(folder, "document"), Path(folder, "text")
                await self.storage.fetch(document.storage_key, source)
                pages = extract(source, extraction.kind, limits=self.limits, max_characters=self.max_characters)
                unit = "Page" if extraction.kind == "pdf" else "Section"
                async with aclosing(pages):
                    async for page in pages:
                        _append_page(target, page)
                        await reporter.part(page.n, page.of, f"{unit} {page.n} of {page.of}")
                text_key = _text_key(document, activity.info().workflow_run_id or "")
                await self.storage.put(text_key, _chunks_of(target), max_bytes=8 * self.max_characters)
            return Text(document=document, text_key=text_key)

    @activity.defn
    async def analyse(self, text: Text) -> AnalysisResult:
        """Find out what the text is about."""
        async with attempt(self.publisher, text.document, "analyse") as reporter:
            with TemporaryDirectory(prefix="pipai-") as folder:
                path = Path(folder, "text")
                await self.storage.fetch(text.text_key, path)
                return await self._ask(path, reporter)

    async def _ask(self, path: Path, reporter: Reporter) -> AnalysisResult:
        """Tell what the analyst does while it does it, and return what it found."""
        last = ""
        again = activity.info().attempt
        items = self.analyst.analyse(path)
        async with aclosing(items):
            async for item in items:
                if isinstance(item, AnalysisResult):
                    await reporter.ai(item.model, AiStep(last, 100), item)
                    return item
                # viewers join the text of a step: another attempt needs a step of its own
                step = item.step if again == 1 else f"{item.step} (attempt {again})"
                if step != last or item.message:
                    await reporter.at(item.progress or 0, item.message or f"AI: {item.step}")
                last = step
                await reporter.ai(self.analyst.model, AiStep(step, item.progress, item.message, item.delta))
        raise ApplicationError("The analyst gave no result.")

    @activity.defn
    async def conclude(self, conclusion: Conclusion) -> None:
        """Tell how the run ended, until the log has it; then remove the text.

        Raises:
            LogError, TimeoutError: the log is away; Temporal tries again.
        """
        run_id = activity.info().workflow_run_id or ""
        published = await self.publisher.append(Run(conclusion.document, run_id).end(conclusion))
        if not published[0].duplicate:
            DOCUMENTS.labels(_outcome(conclusion)).inc()
        await self.storage.delete(_text_key(conclusion.document, run_id))


def _outcome(conclusion: Conclusion) -> str:
    if conclusion.canceled:
        return "canceled"
    return "failed" if conclusion.error else "completed"


def _text_key(document: DocumentAnalysisInput, run_id: str) -> str:
    """Beside the document, so that whoever clears old uploads clears what a dead run left."""
    return f"{document.storage_key}.{run_id}.text"


def _append_page(target: Path, page: Page) -> None:
    with target.open("a", encoding="utf-8") as file:
        file.write((PAGE_BREAK if page.n > 1 else "") + page.text.replace(PAGE_BREAK, "\n"))


async def _chunks_of(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
