"""JSON Schemas of everything that crosses a process border, kept in ``contracts/schema/``.

``python -m pipai_contracts.schema`` writes them; with ``--check`` it only says which are out of date.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from pipai_contracts import (
    analysis,
    batch,
    cloudevents,
    dead_letters,
    events,
    frames,
    health,
    history,
    many,
    metadata,
    problems,
    publish,
    views,
)
from pipai_contracts.envelope import Envelope

FOLDER: Final = Path(__file__).resolve().parent.parent / "schema"

_MODELS: Final[tuple[type[BaseModel], ...]] = (
    events.WorkflowProgress,
    events.AnalysisProgress,
    events.AiProgress,
    events.Notification,
    events.TemporalStatus,
    Envelope,
    publish.PublishWorkflow,
    publish.PublishAnalysis,
    publish.PublishAi,
    publish.PublishNotification,
    publish.Published,
    batch.BatchAnswer,
    cloudevents.CloudEvent,
    views.WorkflowView,
    views.FileView,
    views.UserView,
    views.ViewAnswer,
    views.EventsAnswer,
    history.HistoryPage,
    history.ExportHeader,
    frames.Connected,
    frames.ManyConnected,
    frames.Joined,
    frames.Left,
    many.ManyTopics,
    many.TopicsChange,
    many.TopicsAnswer,
    frames.Reset,
    frames.Position,
    frames.Batch,
    frames.StreamError,
    history.PastView,
    history.ViewDiff,
    frames.Disconnected,
    frames.SystemStatus,
    frames.TemporalAnswer,
    metadata.StreamMetadata,
    problems.Problem,
    health.StreamHealth,
    analysis.DocumentAnalysisInput,
    dead_letters.DeadLetter,
    dead_letters.DeadLetterPage,
    dead_letters.ChosenLetters,
    dead_letters.Redriven,
    dead_letters.Purged,
)


def schemas() -> dict[str, str]:
    """File name → text of each schema."""
    named: dict[str, dict[str, Any]] = {
        model.__name__: model.model_json_schema(mode="serialization") for model in _MODELS
    }
    named["Event"] = TypeAdapter[Any](events.AnyEvent).json_schema()
    named["BatchItem"] = TypeAdapter[Any](batch.BatchItem).json_schema()
    return {f"{name}.json": json.dumps(schema, indent=2, sort_keys=True) + "\n" for name, schema in named.items()}


def out_of_date(folder: Path = FOLDER) -> list[str]:
    """Names of schema files that differ from the models, are missing, or are of no model any more."""
    wanted = schemas()
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def write(folder: Path = FOLDER) -> None:
    """Make the folder hold the models' schemas and nothing else."""
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.json"):
        path.unlink()
    for name, text in schemas().items():
        (folder / name).write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Write the schemas, or with ``--check`` exit 1 when they are out of date."""
    if arguments != ["--check"]:
        write()
        return 0
    stale = out_of_date()
    if stale:
        sys.stderr.write(f"out of date: {', '.join(stale)}; write them again with python -m pipai_contracts.schema\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
