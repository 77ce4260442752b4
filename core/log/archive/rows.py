"""Stream entries as rows of a segment, and back: what is read is to the byte what was written."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from core.log.archive.wanted import Place
from core.log.entry import Entry, decode, is_line
from core.log.errors import UndecodableEntryError
from core.log.keys import Source
from core.log.reader import Logged
from pipai_contracts.envelope import Envelope, encode_data
from pipai_contracts.events import SCHEMA_VERSION
from pipai_contracts.record import Record, StreamId
from pipai_contracts.times import format_millis, millis_of, normalize_time
from pipai_contracts.upcast import read_event

COLUMNS: Final = {
    "stream_ms": "UBIGINT",
    "stream_seq": "UBIGINT",
    "offset": "BIGINT",
    "event_id": "VARCHAR",
    "type": "VARCHAR",
    "v": "INTEGER",
    "tenant": "VARCHAR",
    "topic": "VARCHAR",
    "user_id": "VARCHAR",
    "run_id": "VARCHAR",
    "time": "TIMESTAMP_MS",
    "data": "VARCHAR",
    "correlation_id": "VARCHAR",
    "causation_id": "VARCHAR",
    "extra": "VARCHAR",
    "parked": "BOOLEAN",
}
"""Columns of a segment with their types; the stream is in the name of its folder.

``extra`` has further fields of the entry, and of one that is not as append writes it all of them, as JSON pairs with a
character for each byte; ``v`` is null then, and the other columns say what it is about. ``parked``: it was among the
dead letters when it was archived, so it is in no view."""

_FIELDS: Final = (b"id", b"type", b"v", b"tenant", b"topic", b"offset", b"user", b"run", b"time", b"data")
"""Fields of an entry as append writes it, in its order."""

_FURTHER: Final = (b"correlation", b"causation")
"""Those that few have, behind the others."""

_NUMBERS: Final = re.compile(r"[1-9]\d{0,8} [1-9]\d{0,14}", re.ASCII)
"""Version and offset as append writes them."""


class Row(NamedTuple):
    """One entry, column by column. ``stream`` is its source stream; ``time`` is in milliseconds since 1970."""

    stream: str
    stream_ms: int
    stream_seq: int
    offset: int
    event_id: str | None
    type: str | None
    v: int | None
    tenant: str | None
    topic: str | None
    user_id: str | None
    run_id: str | None
    time: int | None
    data: str | None
    correlation_id: str | None
    causation_id: str | None
    extra: str | None
    parked: bool

    @property
    def stream_id(self) -> StreamId:
        """Where it stood in the log."""
        return StreamId(self.stream_ms, self.stream_seq)

    @property
    def place(self) -> Place:
        """Where it stands among the entries of all streams."""
        return Place(self.stream_id, self.stream, self.topic or "")


def row_of(logged: Logged) -> Row:
    """An entry of the log as a row."""
    try:
        row = _row_of_event(logged)
    except ValueError:
        row = None
    return _row_of_anything(logged) if row is None else row


def _row_of_event(logged: Logged) -> Row | None:
    """The row of an entry as append writes it, which the row says to the byte; None for any other.

    Raises:
        ValueError: it is another, too.
    """
    stream, entry = logged.source.stream, logged.entry
    fields = entry.fields
    if tuple(fields)[: len(_FIELDS)] != _FIELDS:
        return None
    event_id, kind, version, tenant, topic, offset, user, run, time, data, *_ = map(bytes.decode, fields.values())
    if not _NUMBERS.fullmatch(f"{version} {offset}") or time != normalize_time(time):
        return None
    correlation = causation = extra = None
    if len(fields) > len(_FIELDS):
        more = dict(islice(fields.items(), len(_FIELDS), None))
        correlation, causation = (_take_first(more, name) for name in _FURTHER)
        extra = _pairs(more) if more else None
    milliseconds = millis_of(time)
    return Row(
        stream, *entry.stream_id, int(offset), event_id, kind, int(version), tenant, topic, user or None, run or None,
        milliseconds, data, correlation, causation, extra, logged.parked,
    )  # fmt: skip


def _take_first(fields: dict[bytes, bytes], name: bytes) -> str | None:
    """Take a field out if it is the first, and has a value: so that all of them can be put together again."""
    if next(iter(fields), None) != name or not fields[name]:
        return None
    return fields.pop(name).decode()


def _row_of_anything(logged: Logged) -> Row:
    entry = logged.entry
    event_id, kind, tenant, topic, user, correlation = (
        entry.fields.get(name, b"").decode(errors="replace") or None
        for name in (b"id", b"type", b"tenant", b"topic", b"user", b"correlation")
    )
    return Row(
        logged.source.stream, *entry.stream_id, entry.offset, event_id, kind, None, tenant, topic, user, None, None,
        None, correlation, None, _pairs(entry.fields), logged.parked,
    )  # fmt: skip


def entry_of(row: Row) -> Entry:
    """The entry again."""
    return Entry(row.stream_id, fields_of(row))


def decode_row(source: Source, row: Row) -> Record:
    """The event in a row, as `decode` finds it in the row's entry, in a third of the time.

    What a projector could not decode is parked, and its row says so: the ids of any other were checked.

    Raises:
        NewerVersionError: it was written by a newer build.
        UndecodableEntryError: it is no event.
    """
    if row.v != SCHEMA_VERSION or row.extra is not None or row.parked:
        return decode(source, entry_of(row))
    data = (row.data or "").encode()
    try:
        event = read_event(row.type or "", row.v, data)
    except ValueError as error:
        raise UndecodableEntryError(f"{source.key} {row.stream_id}: {error}") from error
    told: dict[str, Any] = {
        "event_id": row.event_id,
        "v": row.v,
        "tenant": row.tenant,
        "user_id": row.user_id,
        "run_id": row.run_id,
        "time": format_millis(row.time or 0),
        "event": event,
        "correlation_id": row.correlation_id,
        "causation_id": row.causation_id,
    }
    envelope = Envelope.of_valid(told)
    return Record.of(source.name, row.stream_id, row.offset, envelope, data if is_line(data) else encode_data(event))


def fields_of(row: Row) -> dict[bytes, bytes]:
    """The fields of the row's entry."""
    extra = {_bytes(name): _bytes(value) for name, value in json.loads(row.extra)} if row.extra is not None else {}
    if row.v is None:
        return extra
    values = (
        row.event_id or "",
        row.type or "",
        str(row.v),
        row.tenant or "",
        row.topic or "",
        str(row.offset),
        row.user_id or "",
        row.run_id or "",
        format_millis(row.time or 0),
        row.data or "",
    )
    fields = {name: value.encode() for name, value in zip(_FIELDS, values, strict=True)}
    for name, value in zip(_FURTHER, (row.correlation_id, row.causation_id), strict=True):
        if value is not None:
            fields[name] = value.encode()
    return {**fields, **extra}


def columns_of(stretch: Iterable[Logged]) -> list[list[Any]]:
    """Entries, at least one, as a list for each of `COLUMNS`."""
    return [list(values) for values in zip(*(row_of(logged)[1:] for logged in stretch), strict=True)]


def row_read(values: Sequence[Any]) -> Row:
    """A row as a query returned it: the stream, then the columns in the order of `COLUMNS`."""
    return Row(*values)


def _pairs(fields: Mapping[bytes, bytes]) -> str:
    return json.dumps([[name.decode("latin-1"), value.decode("latin-1")] for name, value in fields.items()])


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")
