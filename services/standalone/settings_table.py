"""All settings of all services, as `./run settings` and docs/configuration.md show them."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from core.runtime.settings import Settings
from services.api.settings import ApiSettings
from services.archiver.settings import ArchiverSettings
from services.ingest.settings import IngestSettings
from services.projector.settings import ProjectorSettings
from services.standalone.settings import StandaloneSettings
from services.worker.settings import WorkerSettings

CLASSES: Final[dict[str, type[Settings]]] = {
    "all": Settings,
    "standalone": StandaloneSettings,
    "ingest": IngestSettings,
    "projector": ProjectorSettings,
    "api": ApiSettings,
    "archiver": ArchiverSettings,
    "worker": WorkerSettings,
}
"""The shared settings, then each service's own class."""

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"

INTRODUCTION: Final = """\
# Configuration

Every process reads its settings from environment variables. This page is written by
`.venv/bin/python -m services.standalone.settings_table --write`, and a test fails when it is out of date;
`./run settings` shows the same in a terminal.

Give all processes of a deployment the same values of the first table. `standalone` is `./run up`, which also passes its
environment on to the services it starts; where they listen it decides itself.

Temporal's own variables (`TEMPORAL_NAMESPACE`, `TEMPORAL_API_KEY`, `TEMPORAL_TLS`, `TEMPORAL_PROFILE` …)
are read by its SDK, so Temporal Cloud is set up as Temporal's documentation says.
"""


@dataclass(frozen=True)
class Row:
    """One variable. `default` is empty when there is none; a secret's default is never told."""

    name: str
    default: str
    description: str


def rows(settings: type[Settings], without: type[Settings] | None = None) -> list[Row]:
    """The variables a class reads, except those that `without` reads in the same way."""
    inherited = without.model_fields if without else {}
    return [
        Row(name.upper(), _default(field), field.description or "")
        for name, field in settings.model_fields.items()
        if name not in inherited or _default(inherited[name]) != _default(field)
    ]


def document() -> str:
    """The whole text of docs/configuration.md."""
    parts = [INTRODUCTION]
    for service, settings in CLASSES.items():
        shown = rows(settings, None if settings is Settings else Settings)
        if not shown:
            continue
        title = "Every process" if settings is Settings else f"`{service}`"
        lines = [f"## {title}\n", "| Variable | Default | What it does |", "|---|---|---|"]
        lines += [
            f"| `{row.name}` | {f'`{row.default}`' if row.default else ''} | {_cell(row.description)} |"
            for row in shown
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def print_settings() -> int:
    """Print all settings in columns."""
    for service, settings in CLASSES.items():
        shown = rows(settings, None if settings is Settings else Settings)
        if not shown:
            continue
        name_width = max(len(row.name) for row in shown)
        default_width = max(len(row.default) for row in shown)
        sys.stdout.write(f"{'every process' if settings is Settings else service}\n")
        for row in shown:
            line = f"  {row.name:<{name_width}}  {row.default:<{default_width}}  {row.description}"
            sys.stdout.write(f"{line.rstrip()}\n")
        sys.stdout.write("\n")
    return 0


def _default(field: FieldInfo) -> str:
    if field.annotation is SecretStr or SecretStr in get_args(field.annotation):
        return ""
    value = field.get_default()
    if value is None or field.is_required():
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def main(arguments: list[str]) -> int:
    """Write docs/configuration.md."""
    parser = argparse.ArgumentParser(prog="settings_table", description=main.__doc__)
    parser.add_argument("--write", action="store_true", required=True)
    parser.parse_args(arguments)
    DOCUMENT.write_text(document(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
