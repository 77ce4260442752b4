"""Which kind of document a file is."""

import pytest

from core.documents import (
    DocumentError,
    DocumentKind,
    EmptyError,
    EncryptedError,
    UnsupportedError,
    identify,
)
from tests.worker.samples import HTML, MARKDOWN, TEXT, make_docx, make_pdf

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.mark.parametrize(
    ("head", "filename", "content_type", "kind"),
    [
        (make_pdf(1), "a.pdf", "application/pdf", "pdf"),
        (make_pdf(1), "no name at all", None, "pdf"),
        (b"\r\n\r\n" + make_pdf(1), "a.txt", "text/plain", "pdf"),
        (make_docx(), "a.docx", "application/octet-stream", "docx"),
        (make_docx(), "a", WORD, "docx"),
        (HTML, "a.html", None, "html"),
        (HTML, "a", "application/octet-stream", "html"),
        (b"<p>bare", "a", "text/html; charset=utf-8", "html"),
        (MARKDOWN, "README.MD", "application/octet-stream", "markdown"),
        (MARKDOWN, "a", "text/markdown", "markdown"),
        (TEXT, "a.txt", None, "text"),
        (TEXT, "LICENSE", None, "text"),
        (b"a,b\n1,2\n", "a.csv", "text/csv", "text"),
        ("\ufeffhello".encode("utf-16"), "a.txt", "text/plain", "text"),
        (b"C:\\docs", "C:\\docs\\a.txt", None, "text"),
    ],
)
def test_tells_the_kind(head: bytes, filename: str, content_type: str | None, kind: DocumentKind) -> None:
    assert identify(head[:4096], filename, content_type) == kind


@pytest.mark.parametrize(
    ("head", "filename", "content_type", "error", "says"),
    [
        (b"", "a.pdf", "application/pdf", EmptyError, "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "a.pdf", "application/pdf", UnsupportedError, "PNG"),
        (b"\x00\x01\x02", "a.bin", None, UnsupportedError, "unknown binary"),
        (b"MZ\x90\x00\x03", "a.txt", "text/plain", UnsupportedError, "unknown binary"),
        (b"just words", "a.pdf", "application/pdf", UnsupportedError, "called a PDF"),
        (b"just words", "a.docx", None, UnsupportedError, "called a DOCX"),
        (b"PK\x03\x04" + bytes(26) + b"xl/workbook.xml", "a.xlsx", None, UnsupportedError, "zip"),
        (OLE, "a.doc", None, UnsupportedError, "save it as .docx"),
        (OLE, "a.docx", None, EncryptedError, "password"),
        (b"{\\rtf1 hello}", "a.rtf", None, UnsupportedError, "rich text"),
        (b"print(1)", "a.exe", "application/octet-stream", UnsupportedError, ".exe"),
    ],
)
def test_refuses_what_is_not_read_and_says_why(
    head: bytes, filename: str, content_type: str | None, error: type[DocumentError], says: str
) -> None:
    with pytest.raises(error, match=says):
        identify(head, filename, content_type)
