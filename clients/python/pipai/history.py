"""``pipai history``: what happened, and a file of it for others."""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from itertools import chain
from typing import Final

from pipai.formats import FORMATS, json_line, write_events
from pipai.redaction import Redaction, parse_path
from pipai.service import Asked, Service
from pipai_contracts.history import ExportHeader
from pipai_contracts.ids import DEFAULT_TENANT, KINDS, Topic
from pipai_contracts.times import normalize_time

TYPES: Final = ("workflow_progress", "analysis_progress", "ai_progress", "notification", "temporal_status")


class NonsenseError(Exception):
    """The arguments contradict each other; the message says which."""


def add_history(parser: ArgumentParser) -> None:
    """The arguments of ``pipai history``."""
    parser.add_argument("topic", nargs="?", type=topic, help="as workflow:my-workflow; or --kind and --id")
    parser.add_argument("--kind", choices=KINDS, help="of topics of this kind")
    parser.add_argument("--id", help="of topics with this id")
    parser.add_argument("--user", help="of topics this user owns, and about this user")
    parser.add_argument("--type", choices=TYPES, help="of this type")
    parser.add_argument("--correlation", help="with this correlation id")
    add_range(parser)
    parser.add_argument("--limit", type=_count, help="at most so many; all unless told")
    parser.add_argument("--format", choices=FORMATS, default="table", help="default: %(default)s")


def add_export(parser: ArgumentParser) -> None:
    """The arguments of ``pipai history export``."""
    parser.add_argument("topic", type=topic, help="as workflow:my-workflow; of a user, all that belongs to it")
    add_range(parser)
    parser.add_argument(
        "--redact",
        action="append",
        default=[],
        type=_path,
        metavar="FIELD",
        help="hide this field: data.message, data.metadata.*, user_id; may be given several times",
    )


def add_range(parser: ArgumentParser) -> None:
    """From when to when."""
    parser.add_argument("--from", dest="since", type=_time, metavar="TIME", help="appended then or later, RFC 3339")
    parser.add_argument("--to", type=_time, metavar="TIME", help="appended before")


def show_history(service: Service, chosen: Namespace) -> int:
    """Write the events that fit, page by page."""
    found = service.events(_asked(chosen), limit=chosen.limit)
    if not write_events(found, chosen.format, sys.stdout.write) and chosen.format == "table":
        sys.stderr.write("no event is like that\n")
    return 0


def export_history(service: Service, chosen: Namespace) -> int:
    """Write the header, then every event of the topic."""
    redaction = Redaction(chosen.redact)
    wanted: Topic = chosen.topic
    header = ExportHeader(
        topic=redaction.topic(wanted.name),
        since=chosen.since,
        to=chosen.to,
        redacted=tuple(".".join(path) for path in chosen.redact),
    )
    told = header.model_dump(mode="json")
    asked: Asked = {"kind": wanted.kind, "id": wanted.id}
    if wanted.kind == "user":
        asked = {"user": wanted.id}
    events = service.events({**asked, "from": chosen.since, "to": chosen.to})
    count, first = 0, next(events, None)  # before anything is written: most that can be wrong is known then
    sys.stdout.write(json_line(told))
    for event in events if first is None else chain([first], events):
        sys.stdout.write(json_line(redaction.of(event)))
        count += 1
    for path in chosen.redact:
        if count and path not in redaction.met:
            sys.stderr.write(f"--redact {'.'.join(path)}: no event has that\n")
    sys.stderr.write(f"{count} events of {wanted.name}\n")
    return 0


def topic(text: str) -> Topic:
    """``workflow:my-workflow``."""
    try:
        return Topic.parse(f"{DEFAULT_TENANT}:{text}")
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no topic; one is like workflow:my-workflow") from error


def _asked(chosen: Namespace) -> Asked:
    if chosen.topic is not None and (chosen.kind is not None or chosen.id is not None):
        raise NonsenseError("name the topic once: workflow:my-workflow, or --kind and --id")
    kind, resource_id = (chosen.kind, chosen.id) if chosen.topic is None else (chosen.topic.kind, chosen.topic.id)
    return {
        "kind": kind,
        "id": resource_id,
        "user": chosen.user,
        "type": chosen.type,
        "correlation": chosen.correlation,
        "from": chosen.since,
        "to": chosen.to,
    }


def _time(text: str) -> str:
    try:
        return normalize_time(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def _path(text: str) -> tuple[str, ...]:
    try:
        return parse_path(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"must be a number from 1 on, not {text!r}")
    return int(text)
