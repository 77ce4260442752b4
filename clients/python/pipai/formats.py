"""Events as lines: for people, as JSON, as CSV."""

import csv
import json
import re
from collections.abc import Callable, Iterable
from io import StringIO
from typing import Any, Final, Literal, get_args

from pipai.service import Event

Format = Literal["table", "jsonl", "csv"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

COLUMNS: Final = (
    "time", "topic", "event", "progress", "step", "status", "message", "error", "user_id", "run_id", "event_id",
    "correlation_id", "causation_id", "stream", "stream_id", "offset", "v", "parked",
)  # fmt: skip
"""Of the CSV. A newer version may add some at the end."""

_COMMANDING: Final = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f]|" + _COMMANDING.pattern)
"""With those that JSON escapes by itself, but for tabs and new lines."""

_OF_DATA: Final = frozenset({"progress", "step", "status", "message", "error"})
_WIDTHS: Final = (24, 30, 17)
_MOST_TOLD: Final = 100
"""Characters of an event's text in the table."""


def write_events(events: Iterable[Event], form: Format, write: Callable[[str], object]) -> int:
    """Write the events line by line as they come; returns how many there were."""
    lines = {"table": _table, "jsonl": json_lines, "csv": _csv}[form]
    count = 0

    def counted() -> Iterable[Event]:
        nonlocal count
        for event in events:
            count += 1
            yield event

    for line in lines(counted()):
        write(line)
    return count


def json_line(told: Any) -> str:
    """A JSON value on a line of its own."""
    return harmless(json.dumps(told, ensure_ascii=False, separators=(",", ":"))) + "\n"


def harmless(text: str) -> str:
    """The same JSON with what could command a terminal, or turn the direction of its text, as escapes."""
    return _COMMANDING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def json_lines(events: Iterable[Event]) -> Iterable[str]:
    """Each event as the API gave it."""
    return map(json_line, events)


def plain(text: str) -> str:
    """On one line, and without what could command a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def _table(events: Iterable[Event]) -> Iterable[str]:
    for number, event in enumerate(events):
        if number == 0:
            yield _row("TIME (UTC)", "TOPIC", "EVENT", "WHAT")
        cells = (event.get("time"), event.get("topic"), event.get("event"))
        yield _row(*(plain(str(cell or "-")) for cell in cells), _what(event))


def _row(*cells: str) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=False)]
    return "  ".join([*padded, cells[-1]]).rstrip() + "\n"


def _what(event: Event) -> str:
    """What happened, in few words."""
    data: dict[str, Any] = event.get("data") or {}
    progress, error = data.get("progress"), data.get("error")
    parts = [
        "[parked]" if event.get("parked") else None,
        f"{progress:g} %" if isinstance(progress, int | float) else None,
        *(data.get(name) for name in ("step", "status", "title")),
        f"error: {error}" if error else None,
        "canceled" if data.get("canceled") else None,
        data.get("message") or data.get("delta"),
    ]
    text = plain("  ".join(str(part) for part in parts if part))
    return text if len(text) <= _MOST_TOLD else f"{text[: _MOST_TOLD - 1]}…"


def _csv(events: Iterable[Event]) -> Iterable[str]:
    yield _csv_line(COLUMNS)
    for event in events:
        data: dict[str, Any] = event.get("data") or {}
        yield _csv_line([_cell((data if name in _OF_DATA else event).get(name)) for name in COLUMNS])


def _cell(value: Any) -> str:
    """A text as it is, but for what could command a terminal: that is no use to a table either."""
    if isinstance(value, str):
        return _CONTROLS.sub("\ufffd", value)
    return "" if value is None else json.dumps(value)


def _csv_line(cells: Iterable[str]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
