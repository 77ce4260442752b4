"""`./run status` and `./run logs`."""

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError

from services.standalone.output import ALL
from services.standalone.state import SystemState, is_running, read_state

HEALTH_TIMEOUT: Final = 3.0
LINES: Final = 200


def status(folder: Path) -> int:
    """Print a line per service and the system's health; 1 when it does not run."""
    state = read_state(folder) if is_running(folder) else None
    if state is None:
        sys.stdout.write("Nothing runs from this folder; ./run up starts it.\n")
        return 1
    rows = [("SERVICE", "STATE", "PID", "RESTARTS", "ADDRESS")]
    rows += [
        (service.name, service.state, str(service.pid or "-"), str(service.restarts), service.address)
        for service in state.services
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines += ["", f"supervisor {state.pid}, {state.address}", f"health {_health(state)}"]
    sys.stdout.write("\n".join(line.rstrip() for line in lines) + "\n")
    return 0


def logs(folder: Path, service: str | None, *, follow: bool) -> int:
    """Become `tail` on the log of one service, or of all."""
    folder = folder / "logs"
    path = folder / f"{service or ALL}.log"
    if path.is_file():
        os.execvp("tail", ["tail", "-n", str(LINES), *(["-F"] if follow else []), str(path)])  # noqa: S606, S607
    known = ", ".join(sorted(file.stem for file in folder.glob("*.log"))) or "none yet"
    sys.stderr.write(f"There is no log of {service or 'anything'} here; there are: {known}.\n")
    return 2


def _health(state: SystemState) -> str:
    """What /stream/health says, in one line. A 503 has a body too: it says what is broken."""
    url = f"{state.address}/stream/health"
    try:
        with urllib.request.urlopen(url, timeout=HEALTH_TIMEOUT) as answer:  # noqa: S310
            return _in_words(json.load(answer))
    except HTTPError as error:
        with error:
            return _in_words(json.load(error))
    except (OSError, URLError, ValueError) as error:
        return f"unknown: {url} does not answer ({error})"


def _in_words(health: dict[str, Any]) -> str:
    services = ", ".join(f"{name} {value}" for name, value in health.get("services", {}).items())
    return f"{health.get('status', 'unknown')} ({services}; {health.get('active_streams', 0)} streams)"
