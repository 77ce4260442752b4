"""Documents the tests analyse, made on the spot."""

from io import BytesIO

import docx
from fpdf import FPDF
from pypdf import PdfReader, PdfWriter

SENTENCE = "The river survey of page {n} counts the salmon that return to the upper valley every autumn."


def make_pdf(pages: int = 12) -> bytes:
    """A PDF with text on every page, which names its page."""
    pdf = FPDF()
    for n in range(1, pages + 1):
        pdf.add_page()
        pdf.set_font("helvetica", size=12)
        pdf.multi_cell(0, 8, " ".join([f"Page {n}.", *[SENTENCE.format(n=n)] * 5]))
    return bytes(pdf.output())


def make_slow_pdf(pages: int) -> bytes:
    """A PDF whose pages have little text among many strokes, so that reading one takes some 50 ms."""
    pdf = FPDF(format=(800, 800))
    pdf.add_page()
    pdf.set_font("helvetica", size=12)
    pdf.text(1, 10, SENTENCE.format(n=1))
    for line in range(2000):
        pdf.line(line % 800, 0, line % 799, 800)
    page = PdfReader(BytesIO(bytes(pdf.output()))).pages[0]
    writer = PdfWriter()
    for _ in range(pages):
        writer.add_page(page)
    target = BytesIO()
    writer.write(target)
    return target.getvalue()


def make_blank_pdf() -> bytes:
    """A PDF without any text, as scanners make them."""
    pdf = FPDF()
    pdf.add_page()
    return bytes(pdf.output())


def lock_pdf(pdf: bytes, password: str) -> bytes:
    """The same PDF, to be opened with ``password``; with an empty one anybody may open it."""
    writer = PdfWriter(clone_from=PdfReader(BytesIO(pdf)))
    writer.encrypt(password, owner_password="owner", algorithm="AES-256")  # noqa: S106 - a sample
    target = BytesIO()
    writer.write(target)
    return target.getvalue()


def make_docx() -> bytes:
    """A Word document with two headings, paragraphs and a table."""
    document = docx.Document()
    document.add_heading("Salmon", level=1)
    document.add_paragraph("The survey counts the salmon that return to the valley.")
    document.add_heading("Method", level=1)
    document.add_paragraph("Two people walk along the river and count.")
    cells = document.add_table(rows=1, cols=2).rows[0].cells
    cells[0].text, cells[1].text = "weir", "48"
    target = BytesIO()
    document.save(target)
    return target.getvalue()


HTML = b"""<!doctype html><html><head><title>Survey</title><style>p { color: red }</style></head><body>
<h1>Salmon</h1><p>The survey counts the <b>salmon</b><br>of the valley.</p><!-- not for readers -->
<script>track()</script><h2>Method</h2><ul><li>walk</li><li>count</li></ul></body></html>"""

MARKDOWN = b"""# Salmon

The survey counts **salmon** in the [valley](https://example.org).

## Method

Walk and `count`.

| place | fish |
|-------|------|
| weir  | 48   |
"""

TEXT = "Die Zählung\n\nAm Wehr wurden achtundvierzig Lachse gezählt, mehr als in den Jahren davor.\n".encode("cp1252")
