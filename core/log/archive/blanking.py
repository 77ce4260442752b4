"""Taking out of segments what a tombstone hides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from core.log.archive.parquet import BY_TOPIC, NAMES, Parquet
from core.log.archive.rows import COLUMNS
from core.log.tombstones import Tombstone

_HIDDEN: Final = "tenant = ? AND stream_ms <= ? AND (user_id = ? OR topic IN (SELECT unnest(?::VARCHAR[])))"
_BLANK: Final = {name: f"NULL::{kind}" for name, kind in COLUMNS.items()} | {
    "stream_ms": "stream_ms",
    "stream_seq": "stream_seq",
    "offset": '"offset"',
    "extra": """'[["offset", "' || "offset" || '"]]'""",
    "parked": "true",
}
"""What is left of an entry: the same as of one that has nothing but its offset, and is in no view."""


def hits(parquet: Parquet, files: Sequence[Path], tombstone: Tombstone) -> dict[Path, int]:
    """How many entries of these segments a tombstone hides; those that have some.

    Raises:
        SegmentFileError: one of them cannot be read.
    """
    question = f"SELECT filename, count(*) FROM read_parquet(?, filename = true) WHERE {_HIDDEN} GROUP BY ALL"  # noqa: S608 - of constants
    values = [[str(file) for file in files], *_hidden_by(tombstone)]
    return {Path(name): count for page in parquet.ask(question, values) for name, count in page}


def blank(parquet: Parquet, file: Path, tombstone: Tombstone, target: Path) -> None:
    """Write a segment again; of what a tombstone hides the places alone are left, so that offsets prove the rest.

    Raises:
        SegmentFileError: the disk is full, or it cannot be read.
    """
    columns = ", ".join(f'CASE WHEN hidden THEN {_BLANK[name]} ELSE "{name}" END AS "{name}"' for name in COLUMNS)
    rows = f"SELECT {NAMES}, coalesce({_HIDDEN}, false) AS hidden FROM read_parquet(?)"  # noqa: S608 - of constants
    question = f"SELECT {columns} FROM ({rows})"  # noqa: S608 - of constants
    parquet.copy(question, [*_hidden_by(tombstone), [str(file)]], BY_TOPIC, target)


def _hidden_by(tombstone: Tombstone) -> list[Any]:
    """The values for `_HIDDEN`."""
    topics = [*tombstone.topics, f"user:{tombstone.user_id}"]
    return [tombstone.tenant, tombstone.until, tombstone.user_id, topics]
