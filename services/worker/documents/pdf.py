"""Text of a PDF."""

from collections.abc import Iterator
from pathlib import Path

from pypdf import PdfReader
from pypdf.errors import FileNotDecryptedError, LimitReachedError

from core.documents import EncryptedError, TooLargeError


def pdf_pages(path: Path) -> Iterator[tuple[int, str]]:
    """Number of pages and text of each page, in order.

    Raises:
        EncryptedError: it opens with a password only. One that anybody may open is read.
        TooLargeError: a stream in it unpacks to more than pypdf allows.
    """
    try:
        with path.open("rb") as file:
            reader = PdfReader(file)
            if reader.is_encrypted and not reader.decrypt(""):
                raise _encrypted()
            of = len(reader.pages)
            for page in reader.pages:
                yield of, page.extract_text()
    except FileNotDecryptedError as error:
        raise _encrypted() from error
    except LimitReachedError as error:
        raise TooLargeError("The PDF unpacks to more than is allowed.") from error


def _encrypted() -> EncryptedError:
    return EncryptedError("The PDF has a password. Save it without one and send it again.")
