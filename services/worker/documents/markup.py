"""Text of HTML, Markdown and plain text."""

import codecs
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

from bs4 import BeautifulSoup
from bs4.element import CData, NavigableString, Tag
from markdown_it import MarkdownIt
from markdown_it.token import Token

from services.worker.documents.sections import Block

_HEADINGS: Final = frozenset({"h1", "h2", "h3"})
_BLOCKS: Final = _HEADINGS | {
    *("address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "div", "dl", "dt"),
    *("fieldset", "figcaption", "figure", "footer", "form", "h4", "h5", "h6", "header", "html", "li", "main"),
    *("nav", "ol", "p", "pre", "section", "summary", "table", "td", "th", "title", "tr", "ul"),
}
_UNSEEN: Final = ("script", "style", "noscript", "template", "svg")


def decode(data: bytes) -> str:
    """Text of any of the encodings that are common: UTF-8, UTF-16 with its mark, else Windows-1252."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def text_blocks(path: Path) -> Iterator[Block]:
    """Paragraphs of plain text: what blank lines and form feeds separate."""
    for paragraph in re.split(r"\n[ \t]*\n|\f", decode(path.read_bytes()).replace("\r\n", "\n")):
        yield Block(paragraph)


def html_blocks(path: Path) -> Iterator[Block]:
    """Text of a page as a reader sees it; the encoding is the one the page declares."""
    yield from _soup_blocks(BeautifulSoup(path.read_bytes(), "html.parser"))


def markdown_blocks(path: Path) -> Iterator[Block]:
    """Text of a Markdown document without its marks."""
    tokens = MarkdownIt("commonmark").enable("table").parse(decode(path.read_bytes()))
    heading = False
    for token in tokens:
        match token.type:
            case "heading_open":
                heading = token.tag in _HEADINGS
            case "inline":
                yield Block(_inline(token), heading)
                heading = False
            case "fence" | "code_block":
                yield Block(token.content)
            case "html_block":
                yield from _soup_blocks(BeautifulSoup(token.content, "html.parser"))
            case _:
                pass


def _inline(token: Token) -> str:
    parts = (
        " " if part.type in {"softbreak", "hardbreak"} else part.content
        for part in token.children or ()
        if part.type != "html_inline"
    )
    return "".join(parts)


def _soup_blocks(soup: BeautifulSoup) -> Iterator[Block]:
    """Strings that share their nearest block element make one block."""
    for tag in soup.find_all(_UNSEEN):
        tag.decompose()
    for tag in soup.find_all("br"):
        tag.replace_with("\n")
    strings = [
        (string, _block_of(string))
        for string in soup.descendants
        if type(string) in (NavigableString, CData)  # not comments and declarations, which derive from it
    ]
    for _, group in groupby(strings, key=lambda pair: id(pair[1])):
        members = list(group)
        block = members[0][1]
        text = "".join(str(string) for string, _ in members)
        yield Block(" ".join(text.split()), heading=block is not None and block.name in _HEADINGS)


def _block_of(string: object) -> Tag | None:
    parent = string.parent if isinstance(string, NavigableString) else None
    while parent is not None and parent.name not in _BLOCKS:
        parent = parent.parent
    return parent
