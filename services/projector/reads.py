"""How many entries of a stream to ask for at once: many while they are small."""

from collections.abc import Sequence
from typing import Final

FIRST_COUNT: Final = 100

REPLY_BYTES: Final = 4 * 1024 * 1024
"""About how much one read is to bring. Redis bounds a reply by entries only, and these have up to 256 KiB."""


def next_count(count: int, entries: Sequence[dict[bytes, bytes]]) -> int:
    """What to ask for after a read of ``count`` that brought these: twice as many while all came and are small."""
    if len(entries) < count:
        return FIRST_COUNT  # nothing waits, and who knows how large the next ones are
    size = sum(len(fields.get(b"data", b"")) for fields in entries)
    return max(min(2 * count, count * REPLY_BYTES // max(size, 1)), 1)
