"""What the analysis of one document says on its streams, as data: (topic, event, fields)."""

from typing import Any

from .fake_api import FILE, WORKFLOW, FakeApi

SUMMARY = (
    "Long work should say where it stands. Every step of the work is an event, written once to a log with a"
    " number that leaves no gap, and a viewer who lost the connection goes on where it broke off."
)
RESULT: dict[str, Any] = {
    "language": "en",
    "pages": 12,
    "words": 4210,
    "key_phrases": ["progress", "event log", "lost connection", "live view", "worker"],
    "summary": SUMMARY,
}


def workflow(step: str, progress: float, message: str, **more: Any) -> tuple[str, str, dict[str, Any]]:
    data = {"workflow_id": WORKFLOW, "step": step, "progress": progress, "message": message, **more}
    return "workflow", "workflow_progress", data


def file(step: str, progress: float, message: str, **more: Any) -> tuple[str, str, dict[str, Any]]:
    return (
        "file",
        "analysis_progress",
        {"file_id": FILE, "step": step, "progress": progress, "message": message, **more},
    )


def ai(delta: str, **more: Any) -> tuple[str, str, dict[str, Any]]:
    data = {"workflow_id": WORKFLOW, "step": "summary", "delta": delta, "model": "local", **more}
    return "workflow", "ai_progress", data


BEGINNING = [
    workflow("identify", 0, "Identifying the file"),
    file("identify", 5, "PDF 1.7, 12 pages"),
    workflow("identify", 8, "A PDF of 12 pages"),
    workflow("extract", 10, "Page 1 of 12"),
    file("extract", 10, "Page 1 of 12"),
    workflow("extract", 32, "Page 6 of 12"),
    file("extract", 50, "Page 6 of 12"),
    workflow("extract", 55, "Page 12 of 12"),
    file("extract", 100, "Text extracted", result={"characters": 24816}),
    workflow("analyse", 60, "Reading 4,210 words"),
    ai(SUMMARY[:38]),
    ai(SUMMARY[38:110]),
    workflow("analyse", 72, "Writing the summary"),
]
REST = [
    ai(SUMMARY[110:]),
    workflow("conclude", 95, "Storing the result"),
    workflow("conclude", 100, "Done", result=RESULT),
]


def play(api: FakeApi, script: list[tuple[str, str, dict[str, Any]]]) -> None:
    for topic, event, data in script:
        (api.workflow if topic == "workflow" else api.file).publish(event, data)
