"""What kind of document a file is, told from its first bytes and its name.

Ingest asks before it stores anything, the worker asks again before it opens the file. Signature rules rather
than a library of hundreds of formats: five kinds are read, and a guess among hundreds errs on short texts.
"""

import codecs
from pathlib import PurePath
from typing import Final, Literal

DocumentKind = Literal["pdf", "docx", "html", "markdown", "text"]

HEAD_BYTES: Final = 4096
"""How much of a file's beginning `identify` needs."""

SUPPORTED: Final = "PDF, Word (.docx), HTML, Markdown and plain text can be analysed"

_SUFFIXES: Final[dict[str, DocumentKind]] = {
    ".pdf": "pdf",
    ".docx": "docx",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".text": "text",
    ".log": "text",
    ".rst": "text",
    "": "text",
}
_TYPES: Final[dict[str, DocumentKind]] = {
    "application/pdf": "pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/markdown": "markdown",
    "text/x-markdown": "markdown",
    "text/plain": "text",
}
_FOREIGN: Final = (
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"{\\rtf", "a rich text document"),
    (b"%!PS", "a PostScript document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x7fELF", "a program"),
)
_ZIP: Final = b"PK\x03\x04"
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NOT_IN_TEXT: Final = frozenset(range(0x20)) - frozenset(b"\t\n\r\f\b\x1b")


class DocumentError(Exception):
    """The document cannot be analysed, now or later. The message is a sentence for whoever sent it."""


class UnsupportedError(DocumentError):
    """The file is none of the kinds that are read."""


class EmptyError(DocumentError):
    """The file is empty, or there is no text in it."""


class EncryptedError(DocumentError):
    """The document opens with a password only."""


class DamagedError(DocumentError):
    """The document breaks the rules of its format, so it cannot be read."""


class TooLargeError(DocumentError):
    """Reading the document takes more memory, time or text than is allowed."""


def identify(head: bytes, filename: str, content_type: str | None = None) -> DocumentKind:
    """The kind of a file whose first `HEAD_BYTES` bytes (all, when it is shorter) are ``head``.

    What the bytes are counts; name and declared type only tell the kinds of text apart.

    Raises:
        EmptyError: there are no bytes.
        EncryptedError: a Word document with a password.
        UnsupportedError: anything else that is not read.
    """
    if not head:
        raise EmptyError("The file is empty.")
    suffix = PurePath(filename.replace("\\", "/")).suffix.lower()
    declared = (content_type or "").partition(";")[0].strip().lower()
    named = _SUFFIXES.get(suffix) if suffix else None
    claim = named or _TYPES.get(declared)
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(_ZIP):
        return _office(head, claim)
    if head.startswith(_OLE):
        raise _old_office(claim)
    for signature, name in _FOREIGN:
        if head.startswith(signature):
            raise UnsupportedError(f"The file is {name}. {SUPPORTED}.")
    if not _is_text(head):
        raise UnsupportedError(f"The file is of an unknown binary kind. {SUPPORTED}.")
    return _text_kind(head, suffix, declared, claim)


def _office(head: bytes, claim: DocumentKind | None) -> DocumentKind:
    """Word documents are zip archives; their parts lie under ``word/``."""
    if claim == "docx" or b"word/" in head:
        return "docx"
    raise UnsupportedError(f"The file is a zip archive or another Office document. {SUPPORTED}.")


def _old_office(claim: DocumentKind | None) -> DocumentError:
    """Word wraps documents with a password into the container of the old formats."""
    if claim == "docx":
        return EncryptedError("The Word document has a password. Save it without one and send it again.")
    return UnsupportedError(f"The file is in an old Office format; save it as .docx. {SUPPORTED}.")


def _is_text(head: bytes) -> bool:
    if head.startswith(_UTF16):
        return True
    return _NOT_IN_TEXT.isdisjoint(head)


def _text_kind(head: bytes, suffix: str, declared: str, claim: DocumentKind | None) -> DocumentKind:
    if claim in {"pdf", "docx"}:
        raise UnsupportedError(f"The file is called a {claim.upper()} but is plain text. {SUPPORTED}.")
    if claim == "markdown":
        return "markdown"
    start = _decode_start(head).lstrip("\ufeff \t\r\n").lower()
    if claim == "html" or start.startswith(("<!doctype html", "<html")):
        return "html"
    if claim == "text" or suffix in _SUFFIXES or declared.startswith("text/"):
        return "text"
    raise UnsupportedError(f"Files named {suffix} are not read. {SUPPORTED}.")


def _decode_start(head: bytes) -> str:
    encoding = "utf-16" if head.startswith(_UTF16) else "utf-8"
    return head[:512].decode(encoding, errors="replace")
