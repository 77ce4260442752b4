"""What follows what: entries of a source beside the checkpoint they are to follow. Pure."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from core.log.checkpoint import Checkpoint
from core.log.entry import Entry

_PORTION_BYTES: Final = 4 * 1024 * 1024
"""About how much data is folded at once."""


def portions(entries: Sequence[Entry], most: int) -> list[Sequence[Entry]]:
    """The entries in portions of at most so many, and of about `_PORTION_BYTES`: in memory they are much larger."""
    found: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        grows = len(entry.fields.get(b"data", b""))
        if found[-1] and (len(found[-1]) == most or size + grows > _PORTION_BYTES):
            found.append([])
            size = 0
        found[-1].append(entry)
        size += grows
    return [*found]


def misses_some(checkpoint: Checkpoint, entries: Sequence[Entry]) -> bool:
    """Whether there is a hole before or between the entries."""
    offsets = [checkpoint.offset, *(entry.offset for entry in entries if entry.offset)]
    return any(after > before + 1 for before, after in pairwise(offsets))


def gaps(checkpoint: Checkpoint, entries: Sequence[Entry]) -> tuple[int, int]:
    """How many events are missing before and between the entries, and how often their offsets go back."""
    lost = regressed = 0
    expected = checkpoint.offset + 1
    for entry in entries:
        if entry.offset == 0:
            continue
        regressed += entry.offset < expected
        lost += max(entry.offset - expected, 0)
        expected = entry.offset + 1
    return lost, regressed


def contradicts(checkpoint: Checkpoint, passed: Sequence[Entry]) -> bool:
    """Whether an event that should be behind the checkpoint is of another log: one that went back, and grew again."""
    return bool(passed) and passed[-1].offset >= checkpoint.offset > 0 and passed[-1].stream_id < checkpoint.stream_id


def follows(checkpoint: Checkpoint, entries: Sequence[Entry]) -> bool:
    """Whether the entries come right after the checkpoint, one by one."""
    return bool(entries) and all(
        entry.offset == checkpoint.offset + place for place, entry in enumerate(entries, start=1)
    )
