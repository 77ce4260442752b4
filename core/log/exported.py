"""An exported history, read back: JSON lines as entries of a log, each checked before any is used."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_core import to_json

from core.log.archive.wanted import Place
from core.log.entry import Entry, decode
from core.log.errors import UndecodableEntryError
from core.log.keys import SOURCES, Keys, Source, partition_of
from core.log.slice import Placed
from pipai_contracts.history import ExportHeader, HistoryEvent
from pipai_contracts.ids import DEFAULT_TENANT, Topic
from pipai_contracts.record import BEGINNING, StreamId
from pipai_contracts.upcast import NewerVersionError

_LONGEST: Final = 4 * 1024 * 1024
"""Bytes of a line: an event has at most 256 KiB, which escaping makes longer."""

_MOST_FAULTS: Final = 20

_STREAM_ID: Final = re.compile(r"\d{1,15}-\d{1,19}", re.ASCII)

_FURTHER: Final = {"correlation_id": b"correlation", "causation_id": b"causation"}
"""What an event may tell besides, and the field append writes it to."""


@dataclass(slots=True)
class Survey:
    """What is in a file.

    ``topic``: whose history it is. ``first``: the id of the first event per source of the deployment it is for.
    ``left_out``: events that were parked, and entries that are no event; they are in no view, so they are not written.
    ``faults`` are the first that were met, by the number of their line.
    """

    topic: str = ""
    events: int = 0
    left_out: int = 0
    first: dict[Source, StreamId] = field(default_factory=dict[Source, StreamId])
    faults: list[str] = field(default_factory=list[str])


def survey(path: Path, keys: Keys) -> Survey:
    """Look through the whole file.

    Raises:
        OSError: it cannot be read.
    """
    found = Survey()
    for number, read in _lines(path, keys):
        if isinstance(read, ExportHeader):
            found.topic = read.topic
        elif isinstance(read, Placed):
            found.events += 1
            source = keys.source(read.stream, partition_of(read.topic, keys.partitions))
            found.first.setdefault(source, read.entry.stream_id)
        elif read is None:
            found.left_out += 1
        else:
            found.faults.append(f"line {number}: {read}")
            if len(found.faults) == _MOST_FAULTS:
                break
    if not found.topic and not found.faults:
        found.faults.append("line 1: the file is empty")
    return found


def entries_in(path: Path, keys: Keys) -> Iterator[Placed]:
    """The entries of a file that `survey` found no fault in."""
    return (read for _, read in _lines(path, keys) if isinstance(read, Placed))


def _lines(path: Path, keys: Keys) -> Iterator[tuple[int, ExportHeader | Placed | ValueError | None]]:
    """What each line says, by its number: header, entry, None for one that is left out, or what is wrong with it."""
    number, last = 0, None
    with path.open("rb") as file:
        while line := file.readline(_LONGEST + 1):
            number += 1
            try:
                if len(line) > _LONGEST:
                    raise ValueError(f"longer than {_LONGEST} bytes")  # noqa: TRY301 - told like every other fault
                if number == 1:
                    yield number, _header(line)
                    continue
                event = _event(line)
                place = _place(event)
                if last is not None and place <= last:
                    raise ValueError("does not come after the line before in the log")  # noqa: TRY301
                last = place
                yield number, _placed(event, place.stream_id, keys)
            except ValueError as error:
                yield number, error
                if len(line) > _LONGEST or number == 1:
                    return


def _header(line: bytes) -> ExportHeader:
    try:
        header = ExportHeader.model_validate_json(line)
    except ValidationError as error:
        raise ValueError(f"is no header of an exported history of version 1 ({_told(error)})") from error
    _topic(header.topic)
    return header


def _event(line: bytes) -> HistoryEvent:
    try:
        return HistoryEvent.model_validate_json(line)
    except ValidationError as error:
        raise ValueError(f"is no event as the API gives it ({_told(error)})") from error


def _topic(name: str) -> Topic:
    """A topic of an export: it tells of one tenant, and does not say which."""
    return Topic.parse(f"{DEFAULT_TENANT}:{name}")


def _told(error: ValidationError) -> str:
    """Its first fault, without the value, which may be what was to be hidden."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def _place(event: HistoryEvent) -> Place:
    if not _STREAM_ID.fullmatch(event.stream_id):
        raise ValueError("stream_id is none")
    stream_id = StreamId.parse(event.stream_id)
    if stream_id == BEGINNING:
        raise ValueError("stream_id is none that Redis gives")
    return Place(stream_id, event.stream, event.topic or "")


def _placed(event: HistoryEvent, stream_id: StreamId, keys: Keys) -> Placed | None:
    """The entry as append would write it; None for what is in no view.

    Raises:
        ValueError: this build could not project it.
    """
    if event.parked or event.v is None:
        return None
    if event.stream not in SOURCES:
        raise ValueError(f"there is no source stream {event.stream!r}")
    topic = _topic(event.topic or "")
    entry = Entry(stream_id, _fields(event, topic))
    try:
        record = decode(keys.source(event.stream, partition_of(topic, keys.partitions)), entry)
    except UndecodableEntryError as error:
        raise ValueError(f"cannot be read: {str(error).partition(': ')[2]}") from error
    except NewerVersionError as error:
        raise ValueError(f"was written by a newer build: {error}") from error
    if record.envelope.topic != topic or keys.source_of(record.envelope.event.type, topic).stream != event.stream:
        raise ValueError(f"its data is not of {event.topic} in {event.stream}")
    return Placed(event.stream, topic, entry)


def _fields(event: HistoryEvent, topic: Topic) -> dict[bytes, bytes]:
    values = {
        b"id": event.event_id or "",
        b"type": event.event or "",
        b"v": str(event.v),
        b"tenant": topic.tenant,
        b"topic": topic.name,
        b"offset": str(event.offset),
        b"user": event.user_id or "",
        b"run": event.run_id or "",
        b"time": event.time or "",
    }
    told = event.model_dump(include=set(_FURTHER))
    further = {field: told[name].encode() for name, field in _FURTHER.items() if told.get(name)}
    return {**{name: value.encode() for name, value in values.items()}, b"data": to_json(event.data), **further}
