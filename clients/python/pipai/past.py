"""``pipai view``, ``diff`` and ``replay``: how a topic was, what changed, and watching it once more."""

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pipai.formats import harmless, json_line, plain
from pipai.history import topic
from pipai.service import Service, ServiceError, path_of

SPEEDS: Final = ("1", "4", "60", "max")

_MOMENT: Final = "an RFC 3339 time, or how many events"
_TOPIC: Final = "as workflow:my-workflow"

_PAUSE: Final = 1.0
"""Seconds before a replay comes back, so that another process of the service can be there."""


def add_view(parser: ArgumentParser) -> None:
    """The arguments of ``pipai view``."""
    parser.add_argument("topic", type=topic, help=_TOPIC)
    parser.add_argument("--at", help=f"as it was then: {_MOMENT}; now unless told")


def add_diff(parser: ArgumentParser) -> None:
    """The arguments of ``pipai diff``."""
    parser.add_argument("topic", type=topic, help=_TOPIC)
    parser.add_argument("--from", dest="since", required=True, help=_MOMENT)
    parser.add_argument("--to", help=f"{_MOMENT}; now unless told")
    parser.add_argument("--json", action="store_true", help="as the API gives it")


def add_replay(parser: ArgumentParser) -> None:
    """The arguments of ``pipai replay``."""
    parser.add_argument("topic", type=topic, help=_TOPIC)
    parser.add_argument("--from", dest="since", help=f"{_MOMENT}; from the beginning unless told")
    parser.add_argument("--to", help=f"{_MOMENT}; up to now unless told")
    parser.add_argument("--speed", choices=SPEEDS, default="1", help="so many times as fast (default: %(default)s)")


def show_view(service: Service, chosen: Namespace) -> int:
    """Write the state as JSON."""
    _write_json(service.ask(f"/views/{path_of(chosen.topic.kind, chosen.topic.id)}", {"at": chosen.at}))
    return 0


def show_diff(service: Service, chosen: Namespace) -> int:
    """Write a line for each field that changed."""
    path = f"/views/{path_of(chosen.topic.kind, chosen.topic.id)}/diff"
    answer = service.ask(path, {"from": chosen.since, "to": chosen.to})
    if chosen.json:
        _write_json(answer)
        return 0
    for change in answer["changes"]:
        by: dict[str, Any] = change["by"]
        told = "  ".join(plain(str(by[name])) for name in ("time", "event", "event_id"))
        values = f"{_short(change['before'])} → {_short(change['after'])}"
        sys.stdout.write(f"{plain(change['path'])}: {values}  by event {by['pos']}: {told}\n")
    if not answer["changes"]:
        sys.stderr.write("nothing changed\n")
    return 0


def show_replay(service: Service, chosen: Namespace) -> int:
    """Write each message of the stream as a JSON line, when it comes; come back when told to, as after some hours."""
    path = f"/replay/{path_of(chosen.topic.kind, chosen.topic.id)}"
    cursor: str | None = None
    while True:
        asked = {"from": chosen.since, "to": chosen.to, "speed": chosen.speed, "cursor": cursor}
        farewell: dict[str, Any] | None = None
        for message in messages_in(service.lines(path, asked)):
            sys.stdout.write(json_line(message))
            sys.stdout.flush()
            cursor = message["id"] or cursor
            farewell = message["data"] if message["event"] == "disconnected" else None
        if farewell is None:
            raise ServiceError("the replay broke off before its end")
        if not farewell["reconnect"]:
            return 0
        time.sleep(_PAUSE)


def messages_in(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The messages of a stream of Server-Sent Events: ``{id, event, data}`` each, its data read as JSON."""
    fields: dict[str, str] = {}
    data: list[str] = []
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield {"id": fields.get("id"), "event": fields.get("event", "message"), "data": _read("\n".join(data))}
            fields, data = {}, []
        elif name == "data":
            data.append(value)
        elif name:
            fields[name] = value


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _write_json(told: Any) -> None:
    sys.stdout.write(harmless(json.dumps(told, ensure_ascii=False, indent=2)) + "\n")


def _short(value: Any) -> str:
    text = plain(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 80 else f"{text[:79]}…"  # noqa: PLR2004 - what fits into a line
