"""How far somebody is in a source: an offset and a stream id."""

import re
from typing import Final, NamedTuple

from pipai_contracts.record import BEGINNING, StreamId

_FORM: Final = re.compile(rb"\d{1,15} \d{1,15}-\d{1,20}")


class Checkpoint(NamedTuple):
    """Offset and stream id of the last event that was taken in, with everything before it."""

    offset: int
    stream_id: StreamId

    def __str__(self) -> str:
        """The stored form."""
        return f"{self.offset} {self.stream_id}"

    @classmethod
    def parse(cls, stored: bytes | None) -> "Checkpoint":
        """Read the stored form; `NOTHING` for what is none, because taking events in again is safe."""
        if stored is None or not is_checkpoint(stored):
            return NOTHING
        offset, stream_id = stored.split(b" ")
        return cls(int(offset), StreamId.parse(stream_id))


NOTHING: Final = Checkpoint(0, BEGINNING)


def is_checkpoint(stored: bytes) -> bool:
    """Whether this can be read, here and by the scripts."""
    return _FORM.fullmatch(stored) is not None
