"""From a file to its pages, in a confined process."""

import logging
import warnings
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

from core.documents import DamagedError, DocumentError, DocumentKind, EmptyError, TooLargeError
from services.worker.confined.limits import Limits
from services.worker.confined.parent import confined
from services.worker.documents.markup import html_blocks, markdown_blocks, text_blocks
from services.worker.documents.pdf import pdf_pages
from services.worker.documents.sections import sections
from services.worker.documents.word import word_blocks


class Page(NamedTuple):
    """Page, or section, ``n`` of ``of``."""

    n: int
    of: int
    text: str


async def extract(path: Path, kind: DocumentKind, *, limits: Limits, max_characters: int) -> AsyncGenerator[Page, None]:
    """The pages of a document, each as soon as it is read.

    Raises:
        DocumentError: it cannot be read; the message says why.
        ConfinedCrashError: the reader died, which another attempt may mend.
    """
    pages = confined(limits, read_pages, str(path), kind, max_characters)
    async with aclosing(pages):
        async for n, of, text in pages:
            yield Page(n, of, text)


def read_pages(path: str, kind: DocumentKind, max_characters: int) -> Iterator[tuple[int, int, str]]:
    """What `extract` runs in the confined process.

    Raises:
        DocumentError: whatever a reader stumbles over, told as the document's fault.
    """
    logging.disable()  # pypdf tells of each fault it works around, thousands in some files
    warnings.simplefilter("ignore")
    characters = 0
    try:
        for n, (of, text) in enumerate(_pages(Path(path), kind), start=1):
            characters = _count(characters, text, max_characters)
            # a lone surrogate, which some PDFs have, could be stored nowhere
            yield n, of, text.encode("utf-8", "replace").decode()
    except (DocumentError, MemoryError):
        raise
    except Exception as error:
        raise DamagedError(f"The file is damaged: it cannot be read as {_NAMES[kind]}.") from error
    if characters == 0:
        raise EmptyError("There is no text in the document. A scan has only images of its pages.")


def _count(characters: int, text: str, most: int) -> int:
    characters += len(text.strip())
    if characters > most:
        raise TooLargeError(f"The document has more than {most:,} characters of text.")
    return characters


_NAMES: dict[DocumentKind, str] = {
    "pdf": "a PDF",
    "docx": "a Word document",
    "html": "HTML",
    "markdown": "Markdown",
    "text": "text",
}


def _pages(path: Path, kind: DocumentKind) -> Iterator[tuple[int, str]]:
    match kind:
        case "pdf":
            yield from pdf_pages(path)
            return
        case "docx":
            blocks = word_blocks(path)
        case "html":
            blocks = html_blocks(path)
        case "markdown":
            blocks = markdown_blocks(path)
        case "text":
            blocks = text_blocks(path)
    parts = sections(blocks)
    for part in parts:
        yield len(parts), part
