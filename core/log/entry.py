"""Stream entries and the events in them."""

from typing import Final, NamedTuple

from pydantic_core import from_json

from core.log.errors import UndecodableEntryError
from core.log.keys import Source
from pipai_contracts.envelope import Envelope, encode_data
from pipai_contracts.events import SCHEMA_VERSION, any_event
from pipai_contracts.record import Record, StreamId

_MAX_OFFSET_DIGITS: Final = 15
"""A longer number was written by another hand, and Lua could not count on from it."""


class Entry(NamedTuple):
    """A stream entry nobody has looked into yet."""

    stream_id: StreamId
    fields: dict[bytes, bytes]

    @property
    def offset(self) -> int:
        """The offset append gave it; 0 when the entry was not written by append."""
        text = self.fields.get(b"offset", b"")
        return int(text) if text.isdigit() and len(text) <= _MAX_OFFSET_DIGITS else 0


def decode(source: Source, entry: Entry) -> Record:
    """The event in a stream entry, its data brought to the form append writes: JSON on one line.

    Raises:
        UndecodableEntryError: a field is missing, malformed, or of a version this build does not know.
    """
    fields = entry.fields
    try:
        version = int(fields[b"v"])
        data = from_json(fields[b"data"], allow_inf_nan=False)
        envelope = Envelope(
            event_id=fields[b"id"].decode(),
            v=version,
            tenant=fields[b"tenant"].decode(),
            user_id=fields[b"user"].decode() or None,
            run_id=fields[b"run"].decode() or None,
            time=fields[b"time"].decode(),
            event=any_event.validate_python({**data, "type": fields[b"type"].decode()}),
        )
        line = encode_data(envelope.event)
    except (ValueError, KeyError, TypeError) as error:
        raise UndecodableEntryError(f"{source.key} {entry.stream_id}: {error}") from error
    if version > SCHEMA_VERSION:
        raise UndecodableEntryError(f"{source.key} {entry.stream_id}: version {version} is newer than {SCHEMA_VERSION}")
    return Record(source.name, entry.stream_id, entry.offset, envelope, line)
