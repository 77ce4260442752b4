"""Sections: the pages of documents that have none."""

from collections.abc import Iterable
from typing import Final, NamedTuple

SECTION_CHARACTERS: Final = 4000
"""A section ends after the paragraph that takes it past this, about as much as a page has."""


class Block(NamedTuple):
    """A paragraph, a heading, a table row: text that stays together."""

    text: str
    heading: bool = False


def sections(blocks: Iterable[Block]) -> list[str]:
    """Group blocks into sections. A heading begins one, unless only headings came before it."""
    done: list[str] = []
    current: list[Block] = []
    size = 0
    for block in blocks:
        text = block.text.strip()
        if not text:
            continue
        begins = block.heading and any(not earlier.heading for earlier in current)
        if begins or size > SECTION_CHARACTERS:
            done.append("\n\n".join(earlier.text for earlier in current))
            current, size = [], 0
        current.append(Block(text, block.heading))
        size += len(text)
    if current:
        done.append("\n\n".join(earlier.text for earlier in current))
    return done
