"""The analyst that asks a model, against a small server that answers well or badly."""

from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from pipai_contracts.analysis import MAX_SUMMARY, AnalysisResult, TextCounts
from services.worker.ai import openai_server
from services.worker.ai.analyst import AiStep, AnalystError
from services.worker.ai.openai_server import ATTEMPTS, MAX_PROMPT, OpenAIAnalyst
from tests.worker.model_server import CUT, STOP_EARLY, Answer, ModelServer, Refusal, model_server

MEASURED = AnalysisResult(
    language="en",
    key_phrases=("salmon",),
    summary="local",
    counts=TextCounts(pages=1, sentences=1, words=2, characters=9),
    model="local",
)


class Measure:
    """Stands in for the local analyst, which has its own tests."""

    model = "local"

    async def analyse(self, text: Path) -> AsyncGenerator[AiStep | AnalysisResult, None]:
        assert text.name == "text"
        yield AiStep("language", 0)
        yield MEASURED


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with model_server() as serving:
        yield serving


async def analyse(
    server: ModelServer, tmp_path: Path, text: str = "Salmon\fcome back."
) -> tuple[list[AiStep], AnalysisResult]:
    """Run the analyst against the server."""
    path = tmp_path / "text"
    path.write_text(text, "utf-8")
    async with AsyncOpenAI(base_url=server.base_url, api_key="none", timeout=5) as client:
        items = [item async for item in OpenAIAnalyst(client, "tiny", Measure()).analyse(path)]
    result = items.pop()
    assert isinstance(result, AnalysisResult)
    return [item for item in items if isinstance(item, AiStep)], result


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits between attempts are noted, not waited for."""
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(openai_server, "pause", note)
    return waits


async def test_the_models_text_streams_and_becomes_the_summary(server: ModelServer, tmp_path: Path) -> None:
    server.answers = [["Salmon ", "are ", "back."]]
    steps, result = await analyse(server, tmp_path)
    assert "".join(step.delta or "" for step in steps) == "Salmon are back."
    assert result == MEASURED.model_copy(update={"summary": "Salmon are back.", "model": "tiny"})
    assert "Salmon\n\ncome back." in server.prompts[0]


async def test_a_fast_model_does_not_become_an_event_per_token(server: ModelServer, tmp_path: Path) -> None:
    server.answers = [["word "] * 500]
    steps, result = await analyse(server, tmp_path)
    assert result.summary == ("word " * 500).strip()
    assert sum(1 for step in steps if step.delta) < 50


async def test_a_busy_server_is_asked_again_when_it_says(
    server: ModelServer, tmp_path: Path, impatient: list[float]
) -> None:
    server.answers = [Refusal(429, "7"), Refusal(503), ["Back."]]
    steps, result = await analyse(server, tmp_path)
    assert result.summary == "Back."
    assert impatient[0] == 7
    assert any(step.message == "The AI server is busy; trying again in 7 s" for step in steps)


@pytest.mark.parametrize("fault", [CUT, STOP_EARLY])
async def test_after_a_cut_the_text_begins_again_in_a_step_of_its_own(
    server: ModelServer, tmp_path: Path, impatient: list[float], fault: str
) -> None:
    """Viewers join the deltas of a step, so a second beginning in the same step would double the text."""
    server.answers = [["Salm", fault], ["Salmon ", "are back."]]
    steps, result = await analyse(server, tmp_path)
    assert result.summary == "Salmon are back."
    assert len(impatient) == 1
    last = steps[-1].step
    assert last != "summary"
    assert "".join(step.delta or "" for step in steps if step.step == last) == "Salmon are back."


@pytest.mark.parametrize(
    ("answer", "says"),
    [(Refusal(429), "busy, 4 times"), (Refusal(500), "status 500, 4 times"), (["a", CUT], "broke, 4 times")],
)
async def test_a_server_that_stays_bad_is_given_up(
    server: ModelServer, tmp_path: Path, impatient: list[float], answer: Answer, says: str
) -> None:
    server.answers = [answer]
    with pytest.raises(AnalystError, match=says):
        await analyse(server, tmp_path)
    assert len(server.prompts) == ATTEMPTS
    assert len(impatient) == ATTEMPTS - 1


@pytest.mark.parametrize(("answer", "says"), [(Refusal(401), "status 401"), (["  "], "no answer")])
async def test_what_waiting_cannot_mend_fails_at_once(
    server: ModelServer, tmp_path: Path, answer: Answer, says: str
) -> None:
    server.answers = [answer]
    with pytest.raises(AnalystError, match=says):
        await analyse(server, tmp_path)
    assert len(server.prompts) == 1


async def test_nobody_there_is_told(tmp_path: Path, impatient: list[float]) -> None:
    with pytest.raises(AnalystError, match="connection to the AI server broke, 4 times"):
        await analyse(ModelServer([]), tmp_path)
    assert len(impatient) == ATTEMPTS - 1


async def test_prompt_and_summary_are_bounded(server: ModelServer, tmp_path: Path) -> None:
    server.answers = [["much " * 100] * 500]
    text = "the beginning " + "x" * 500_000 + " the end"
    _, result = await analyse(server, tmp_path, text)
    assert len(result.summary) <= MAX_SUMMARY
    assert len(server.prompts[0]) < MAX_PROMPT + 100
    assert "the beginning" in server.prompts[0]
    assert "the end" in server.prompts[0]
