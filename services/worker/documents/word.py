"""Text of a Word document."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import docx
from docx.table import Table

from core.documents import TooLargeError
from services.worker.documents.sections import Block

MAX_UNPACKED: Final = 500 * 1024 * 1024
"""Bytes the parts of a document may unpack to. Zip bombs promise far more."""


def word_blocks(path: Path) -> Iterator[Block]:
    """Paragraphs, headings and table rows of a Word document, in order.

    Raises:
        TooLargeError: its parts unpack to more than `MAX_UNPACKED`.
    """
    with zipfile.ZipFile(path) as archive:
        if sum(part.file_size for part in archive.infolist()) > MAX_UNPACKED:
            raise TooLargeError("The Word document unpacks to more than is allowed.")
    for item in docx.Document(str(path)).iter_inner_content():
        if isinstance(item, Table):
            yield from _rows(item)
        else:
            style = item.style.name if item.style else None
            yield Block(item.text, heading=bool(style) and style.startswith(("Heading", "Title")))


def _rows(table: Table) -> Iterator[Block]:
    for row in table.rows:
        cells = dict.fromkeys(cell.text.strip() for cell in row.cells)  # a merged cell is listed repeatedly
        yield Block(" | ".join(text for text in cells if text))
