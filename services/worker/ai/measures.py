"""Counting and choosing sentences: plain text in, plain values out."""

import math
import re
from collections.abc import Sequence
from typing import Final

from pipai_contracts.analysis import MAX_KEY_PHRASES

SUMMARY_SENTENCES: Final = 5
SUMMARY_CHARACTERS: Final = 1200
_READABLE: Final = range(5, 61)
"""Words of a sentence that can stand in a summary: shorter ones are headings, longer ones tables."""

_STOPS: Final = (".", "!", "?", "。", "！", "？", '."', ".)", ".”")  # noqa: RUF001 - Chinese and Japanese too
_PROSE_LETTERS: Final = 0.88

_WORD: Final = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")  # noqa: RUF001 - the apostrophe of printed text


def count_words(text: str) -> int:
    """Words, hyphened and shortened ones as one."""
    return sum(1 for _ in _WORD.finditer(text))


def chunks(text: str, size: int) -> list[str]:
    """``text`` in pieces of about ``size`` characters that end where a line or a word does."""
    pieces: list[str] = []
    start = 0
    while len(text) - start > size:
        end = start + size
        cut = max(text.rfind("\n", start + size // 2, end), text.rfind(" ", start + size // 2, end))
        end = cut + 1 if cut > 0 else end
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]]


def merge_phrases(found: Sequence[Sequence[tuple[str, float]]]) -> tuple[str, ...]:
    """The best phrases of all chunks, each chunk's with a score that is lower the better.

    A phrase found in several chunks gains by each; one that is part of a better one is left out.
    """
    best: dict[str, tuple[str, float, int]] = {}
    for chunk in found:
        for phrase, score in chunk:
            spelled, lowest, times = best.get(phrase.casefold(), (phrase, score, 0))
            best[phrase.casefold()] = (spelled, min(lowest, score), times + 1)
    ranked = sorted(best, key=lambda key: (best[key][1] / best[key][2], key))
    chosen: list[str] = []
    for key in ranked:
        if not any(key in other or other in key for other in chosen):
            chosen.append(key)
        if len(chosen) == MAX_KEY_PHRASES:
            break
    return tuple(best[key][0] for key in chosen)


def summarise(sentences: Sequence[str], phrases: Sequence[str]) -> list[str]:
    """The sentences that say most of the key phrases, in the order of the text.

    A text without sentences of readable length is summarised by its beginning.
    """
    keys = [phrase.casefold() for phrase in phrases]
    scored: dict[str, tuple[float, int]] = {}
    for position, sentence in enumerate(sentences):
        if sentence not in scored and (score := _score(sentence, position, keys)) > 0:
            scored[sentence] = (score, position)
    chosen: list[str] = []
    room = SUMMARY_CHARACTERS
    for sentence in sorted(scored, key=lambda one: -scored[one][0]):
        if len(sentence) <= room:
            chosen.append(sentence)
            room -= len(sentence)
        if len(chosen) == SUMMARY_SENTENCES:
            break
    if not chosen:
        return [" ".join(sentences)[: SUMMARY_CHARACTERS // 2].strip()]
    return sorted(chosen, key=lambda one: scored[one][1])


def _score(sentence: str, position: int, keys: Sequence[str]) -> float:
    words = count_words(sentence)
    if words not in _READABLE or not _is_prose(sentence):
        return 0
    text = sentence.casefold()
    hits = sum(1 / math.sqrt(rank) for rank, key in enumerate(keys, start=1) if key in text)
    early = 0.3 / (1 + position / 10)  # what a text is about tends to be said at its beginning
    return hits / math.log(words + 3) + early


def _is_prose(sentence: str) -> bool:
    """Whether it reads as a sentence. Lists of contents, code and tables have few letters or end anywhere."""
    letters = sum(1 for character in sentence if character.isalpha() or character == " ")
    return sentence.endswith(_STOPS) and letters >= _PROSE_LETTERS * len(sentence)
