"""Text of documents, page by page, from a confined process."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from zlib import compress

import pytest

from core.documents import DamagedError, DocumentError, DocumentKind, EmptyError, EncryptedError, TooLargeError
from services.worker.confined.limits import Limits
from services.worker.confined.parent import ConfinedCrashError, confined
from services.worker.documents.extract import Page, extract
from tests.worker.samples import HTML, MARKDOWN, TEXT, lock_pdf, make_blank_pdf, make_docx, make_pdf

LIMITS = Limits(memory_bytes=1024 * 1024 * 1024, seconds=30)


async def read(
    tmp_path: Path, data: bytes, kind: DocumentKind, limits: Limits = LIMITS, most: int = 1_000_000
) -> list[Page]:
    path = tmp_path / "document"
    path.write_bytes(data)
    return [page async for page in extract(path, kind, limits=limits, max_characters=most)]


async def test_a_pdf_comes_page_by_page(tmp_path: Path) -> None:
    pages = await read(tmp_path, make_pdf(12), "pdf")
    assert [(page.n, page.of) for page in pages] == [(n, 12) for n in range(1, 13)]
    assert all(page.text.startswith(f"Page {page.n}.") for page in pages)


async def test_a_pdf_that_anybody_may_open_is_read(tmp_path: Path) -> None:
    assert len(await read(tmp_path, lock_pdf(make_pdf(2), ""), "pdf")) == 2


async def test_word_headings_begin_sections_and_tables_are_read(tmp_path: Path) -> None:
    pages = await read(tmp_path, make_docx(), "docx")
    assert [page.text.split("\n\n")[0] for page in pages] == ["Salmon", "Method"]
    assert pages[1].text.endswith("weir | 48")


async def test_html_gives_what_a_reader_sees(tmp_path: Path) -> None:
    text = "\n".join(page.text for page in await read(tmp_path, HTML, "html"))
    assert "The survey counts the salmon of the valley." in text
    for unseen in ("track", "color", "not for readers", "<"):
        assert unseen not in text


async def test_markdown_loses_its_marks(tmp_path: Path) -> None:
    pages = await read(tmp_path, MARKDOWN, "markdown")
    assert pages[0].text == "Salmon\n\nThe survey counts salmon in the valley."
    assert pages[1].text.startswith("Method\n\nWalk and count.")
    assert "48" in pages[1].text


async def test_text_in_an_old_encoding_is_read(tmp_path: Path) -> None:
    pages = await read(tmp_path, TEXT, "text")
    assert "Zählung" in pages[0].text


async def test_long_text_is_cut_into_sections(tmp_path: Path) -> None:
    paragraph = b"word " * 200 + b"\n\n"
    pages = await read(tmp_path, paragraph * 50, "text")
    assert len(pages) == pages[0].of > 5


@pytest.mark.parametrize(
    ("data", "kind", "error", "says"),
    [
        (lock_pdf(make_pdf(1), "secret"), "pdf", EncryptedError, "password"),
        (make_pdf(3)[:1500], "pdf", DamagedError, "cannot be read as a PDF"),
        (b"%PDF-1.7\n" + b"nothing of the kind " * 100, "pdf", DamagedError, "cannot be read as a PDF"),
        (make_blank_pdf(), "pdf", EmptyError, "no text"),
        (make_docx()[:4000], "docx", DamagedError, "cannot be read as a Word document"),
        (b"  \n\n ", "text", EmptyError, "no text"),
    ],
)
async def test_what_cannot_be_read_says_why(
    tmp_path: Path, data: bytes, kind: DocumentKind, error: type[DocumentError], says: str
) -> None:
    with pytest.raises(error, match=says):
        await read(tmp_path, data, kind)


async def test_more_text_than_allowed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TooLargeError, match="more than 1,000 characters"):
        await read(tmp_path, make_pdf(12), "pdf", most=1000)


async def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    path = tmp_path / "bomb.docx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("word/document.xml", "w") as part:
        for _ in range(600):
            part.write(bytes(1024 * 1024))
    with pytest.raises(TooLargeError, match="unpacks to more"):
        await read(tmp_path, path.read_bytes(), "docx")


async def test_a_pdf_bomb_is_refused(tmp_path: Path) -> None:
    """A page whose content unpacks from a few kilobytes to hundreds of megabytes."""
    content = compress(bytes(300 * 1024 * 1024), 9)
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources << /Font << >> >> >>",
        b"<< /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
    ]
    pdf = b"%PDF-1.4\n"
    places: list[int] = []
    for number, part in enumerate(parts, start=1):
        places.append(len(pdf))
        pdf += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    pdf += b"xref\n0 5\n0000000000 65535 f \n%strailer\n<< /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        table,
        len(pdf),
    )
    with pytest.raises(TooLargeError, match="more than is allowed"):
        await read(tmp_path, pdf, "pdf")


def take_memory() -> Iterator[int]:
    yield 1
    yield len(bytearray(4 * 1024 * 1024 * 1024))


def take_time() -> Iterator[int]:
    yield 1
    while True:
        pass


def stumble() -> Iterator[int]:
    yield 1
    raise LookupError("a fault of ours")


async def test_a_process_that_wants_too_much_memory_ends_clearly() -> None:
    items = confined(LIMITS, take_memory)
    assert await anext(items) == 1
    with pytest.raises(TooLargeError, match="memory"):
        await anext(items)


async def test_a_process_that_does_not_end_is_ended() -> None:
    with pytest.raises(TooLargeError, match="longer"):
        [item async for item in confined(Limits(seconds=1), take_time)]


async def test_a_fault_in_the_process_is_told_with_its_traceback() -> None:
    items = confined(LIMITS, stumble)
    assert await anext(items) == 1
    with pytest.raises(ConfinedCrashError, match="a fault of ours"):
        await anext(items)


async def test_whoever_stops_reading_ends_the_process() -> None:
    items = confined(LIMITS, take_time)
    assert await anext(items) == 1
    await items.aclose()
