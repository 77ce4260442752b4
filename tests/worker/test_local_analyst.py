"""The analyst that needs no server."""

from pathlib import Path

import pytest

from core.documents import TooLargeError
from pipai_contracts.analysis import MAX_KEY_PHRASES, AnalysisResult
from services.worker.ai.analyst import AiStep
from services.worker.ai.local import LocalAnalyst
from services.worker.ai.measures import SUMMARY_CHARACTERS, chunks, count_words, merge_phrases, summarise
from services.worker.confined.limits import Limits

ENGLISH = (
    "The river survey counts the salmon that return to the upper valley every autumn. "
    "Dr. Hill leads the river survey with a small team of volunteers. "
    "It rained. "
    "This year the river survey found more salmon in the upper valley than in any year before.\f"
    "A second survey of the lower valley is planned for next spring."
)


async def analyse(tmp_path: Path, text: str) -> tuple[list[AiStep], AnalysisResult]:
    path = tmp_path / "text"
    path.write_text(text, "utf-8")
    items = [item async for item in LocalAnalyst(Limits()).analyse(path)]
    result = items.pop()
    assert isinstance(result, AnalysisResult)
    return [item for item in items if isinstance(item, AiStep)], result


async def test_finds_language_phrases_summary_and_counts(tmp_path: Path) -> None:
    _, result = await analyse(tmp_path, ENGLISH)
    assert result.language == "en"
    assert "upper valley" in result.key_phrases
    assert "found more salmon" in result.summary
    assert "It rained" not in result.summary
    assert (result.counts.pages, result.counts.sentences, result.counts.words) == (2, 5, 57)
    assert result.model == "local"


async def test_tells_its_steps_with_rising_progress(tmp_path: Path) -> None:
    steps, result = await analyse(tmp_path, ENGLISH * 400)
    assert list(dict.fromkeys(step.step for step in steps)) == ["language", "key phrases", "summary"]
    progress = [step.progress or 0 for step in steps]
    assert progress == sorted(progress)
    assert progress[-1] == 100
    assert any(step.message and "part 2 of " in step.message for step in steps)
    assert "".join(step.delta or "" for step in steps) == result.summary


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Der Fluss führt in diesem Herbst mehr Lachse als in allen Jahren zuvor, sagt Herr Dr. Berg.", "de"),
        ("La rivière compte cet automne plus de saumons que pendant toutes les années précédentes.", "fr"),
        ("今年の秋は、川に戻ってくる鮭の数が例年より多くなっています。", "ja"),
        ("7", "und"),
    ],
)
async def test_any_language_gives_a_result(tmp_path: Path, text: str, language: str) -> None:
    _, result = await analyse(tmp_path, text)
    assert result.language == language
    assert result.summary


async def test_a_text_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("many words and then more words. " * 300_000, "utf-8")
    with pytest.raises(TooLargeError, match="longer than is allowed"):
        async for _ in LocalAnalyst(Limits(seconds=1)).analyse(path):
            pass


def test_words_keep_their_hyphens_and_apostrophes() -> None:
    assert count_words("It's a well-known fact - isn't it?") == 6


def test_chunks_lose_nothing_and_split_between_words() -> None:
    text = "salmon river " * 1000
    pieces = chunks(text, 1000)
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 1000
    assert all(piece.endswith(" ") for piece in pieces)
    assert "".join(chunks("x" * 2500, 1000)) == "x" * 2500


def test_phrases_of_all_chunks_are_ranked_together() -> None:
    merged = merge_phrases([[("River Survey", 0.02), ("valley", 0.03)], [("valley", 0.03), ("survey", 0.021)]])
    assert merged == ("valley", "River Survey")
    many = [[(f"phrase{chr(97 + n)}x", float(n)) for n in range(26)]]
    assert len(merge_phrases(many)) == MAX_KEY_PHRASES


def test_a_summary_is_short_and_in_the_order_of_the_text() -> None:
    sentences = [f"Sentence {n} says something about the salmon of the valley." for n in range(100)]
    chosen = summarise(sentences, ["salmon"])
    assert chosen == sorted(chosen, key=sentences.index)
    assert len(" ".join(chosen)) <= SUMMARY_CHARACTERS
    assert summarise([". . . 4.3 DER functions . . . 8 . . . a b c.", "This one is a sentence of words."], ["DER"]) == [
        "This one is a sentence of words."
    ]
    assert summarise(["Too short."], []) == ["Too short."]
