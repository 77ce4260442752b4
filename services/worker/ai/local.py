"""The analyst that needs no server: libraries whose data is part of their packages."""

import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, cast

from pipai_contracts.analysis import MAX_KEY_PHRASES, MAX_SUMMARY, AnalysisResult, TextCounts
from services.worker.ai.analyst import PAGE_BREAK, AiStep
from services.worker.ai.measures import chunks, count_words, merge_phrases, summarise
from services.worker.confined.limits import Limits
from services.worker.confined.parent import confined

LOCAL: Final = "local"
"""What results name as their model."""

_CHUNK: Final = 50_000
"""Characters looked at in one go, about a quarter of a second's work."""

_LANGUAGE_SAMPLE: Final = 20_000
_SURE_ENOUGH: Final = 0.5
_LONGEST_PHRASE: Final = 80
_WIDE_STOP: Final = re.compile(r"([。！？])")  # noqa: RUF001 - the stops of Chinese and Japanese


class LocalAnalyst:
    """Language, key phrases, an extractive summary and counts, computed in a confined process.

    A confined process because regular expressions meet untrusted text there, and because a thread could not
    be ended when the workflow is cancelled.
    """

    def __init__(self, limits: Limits) -> None:
        self.model = LOCAL
        self._limits = limits

    async def analyse(self, text: Path) -> AsyncGenerator[AiStep | AnalysisResult, None]:
        """See `Analyst.analyse`."""
        answers = confined(self._limits, read_text, str(text))
        async with aclosing(answers):
            async for answer in answers:
                yield AnalysisResult(**answer["result"]) if "result" in answer else AiStep(**answer)


def read_text(path: str) -> Iterator[dict[str, Any]]:
    """What `LocalAnalyst` runs in the confined process: fields of `AiStep`, and last ``{"result": …}``."""
    whole = Path(path).read_text("utf-8")
    pages = whole.count(PAGE_BREAK) + 1
    text = whole.replace(PAGE_BREAK, "\n\n")
    yield {"step": "language", "progress": 0}
    language = _language(text[:_LANGUAGE_SAMPLE])
    pieces = chunks(text, _CHUNK)
    phrases_found: list[list[tuple[str, float]]] = []
    sentences: list[str] = []
    for n, piece in enumerate(pieces, start=1):
        message = f"Key phrases, part {n} of {len(pieces)}" if len(pieces) > 1 else None
        yield {"step": "key phrases", "progress": 10 + 80 * (n - 1) / len(pieces), "message": message}
        phrases_found.append(_key_phrases(piece, language))
        sentences.extend(_sentences(piece))
    phrases = merge_phrases(phrases_found)
    yield {"step": "summary", "progress": 90}
    summary = " ".join(summarise(sentences, phrases))[:MAX_SUMMARY]
    yield {"step": "summary", "progress": 100, "delta": summary}
    counts = TextCounts(pages=pages, sentences=len(sentences), words=count_words(text), characters=len(text))
    result = AnalysisResult(language=language, key_phrases=phrases, summary=summary, counts=counts, model=LOCAL)
    yield {"result": result.model_dump(mode="json")}


# The libraries are imported where they are used: only the confined process needs them, and the worker's own
# start would wait a second for their data.


def _language(sample: str) -> str:
    from py3langid.langid import (  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs]
        MODEL_FILE,
        LanguageIdentifier,
    )

    tell = cast("Any", LanguageIdentifier).from_model_file(MODEL_FILE, norm_probs=True, min_confidence=_SURE_ENOUGH)
    language, _ = cast("tuple[str, float]", tell.classify(sample))
    return language


def _key_phrases(text: str, language: str) -> list[tuple[str, float]]:
    from yake import KeywordExtractor  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs]

    extractor = cast("Any", KeywordExtractor)(lan=language, n=3, top=3 * MAX_KEY_PHRASES)
    found = cast("list[tuple[str, float]]", extractor.extract_keywords(text))
    # a script without spaces gives whole paragraphs
    return [(phrase, float(score)) for phrase, score in found if len(phrase) <= _LONGEST_PHRASE]


def _sentences(text: str) -> list[str]:
    from segtok import segmenter  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs]

    split = cast("Any", segmenter).split_multi(_WIDE_STOP.sub(r"\1 ", text))
    return [" ".join(sentence.split()) for sentence in split if sentence.strip()]
