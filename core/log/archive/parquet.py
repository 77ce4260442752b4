"""Segments as files: Parquet, compressed with zstd, sorted by topic, so that one topic's events stand together."""

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import duckdb

from core.log.archive.durable import sync
from core.log.archive.rows import COLUMNS, Row, columns_of, row_read
from core.log.archive.wanted import Place, Wanted
from core.log.reader import Logged
from pipai_contracts.ids import KINDS
from pipai_contracts.record import StreamId

ROW_GROUP: Final = 20_480
"""Rows that are skipped together when none of them can be of a topic. A multiple of DuckDB's vectors of 2,048."""

_MEMORY: Final = "512MB"
_PAGE: Final = 2_048
_BREAK_OFF_SECONDS: Final = 5.0

NAMES: Final = ", ".join(f'"{name}"' for name in COLUMNS)
_READ: Final = "replace(stream, '-', ':'), " + NAMES.replace('"time"', 'epoch_ms("time")')
BY_ID: Final = "stream_ms, stream_seq"
_IN_ORDER: Final = f"{BY_ID}, stream, coalesce(topic, '')"
BY_TOPIC: Final = f"tenant, topic, {BY_ID}"
_TOGETHER: Final = f"SELECT DISTINCT ON ({BY_ID}, topic, event_id) {NAMES} FROM read_parquet(?)"  # noqa: S608 - of constants
_BETWEEN: Final = (
    "stream_ms >= ? AND (stream_ms > ? OR stream_seq > ?) AND stream_ms <= ? AND (stream_ms < ? OR stream_seq <= ?)"
)
_FILES: Final = "read_parquet(?, hive_partitioning = true, hive_types_autocast = false)"
_SELECT: Final = f"SELECT DISTINCT ON ({_IN_ORDER}, event_id) {_READ} FROM {_FILES}"  # noqa: S608 - of constants
_OPTIONS: Final = f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})"


class SegmentFileError(OSError):
    """A segment could not be written or read; the message says which, and why."""


class Parquet:
    """Writes and reads segments. Its methods take their time: call them from a thread.

    One DuckDB, from the first use on, which has memory up to a bound; what needs more goes to ``folder``. One segment
    is written at a time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config: dict[str, Any] = {
            "threads": 1,
            "memory_limit": _MEMORY,
            "temp_directory": str(folder),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        self._database: duckdb.DuckDBPyConnection | None = None
        self._turn = threading.Lock()
        self._rest = threading.Condition()
        self._at_work: set[duckdb.DuckDBPyConnection] = set()
        self._closed = False

    def close(self) -> None:
        """Break off what is under way in other threads, and give back what it holds."""
        with self._rest:
            self._closed = True
            for connection in self._at_work:
                connection.interrupt()
            self._rest.wait_for(lambda: not self._at_work, timeout=_BREAK_OFF_SECONDS)
            if self._database is not None:
                self._database.close()

    def write(self, stretch: Sequence[Logged], target: Path) -> int:
        """Write entries of one source: when this returns they are on the disk, in a file that is whole.

        Returns how many bytes that is.

        Raises:
            SegmentFileError: the disk is full, or cannot be written.
        """
        asked = ", ".join(_column(name, kind) for name, kind in COLUMNS.items())
        return self.copy(f"SELECT {asked}", columns_of(stretch), BY_TOPIC, target)

    def bring_together(self, parts: Sequence[Path], target: Path) -> None:
        """Write one segment with everything in these, what is in several once.

        Raises:
            SegmentFileError: the disk is full, or one of them cannot be read.
        """
        self.copy(_TOGETHER, [[str(part) for part in parts]], BY_TOPIC, target)

    def copy(self, question: str, values: Sequence[Any], order: str, target: Path) -> int:
        """Write what a question finds, in this order, as a file that is whole and on the disk; returns its bytes.

        Raises:
            SegmentFileError: the disk is full, or cannot be written.
        """
        unfinished = target.with_name(f"#{target.name}")
        command = f"COPY ({question} ORDER BY {order}) TO '{_quoted(unfinished)}' {_OPTIONS}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._turn, self._working() as connection:
                connection.execute(command, values)
            sync(unfinished)
            size = unfinished.stat().st_size
            unfinished.replace(target)
            sync(target.parent)
            return size  # noqa: TRY300 - the errors of all of it are told alike
        except OSError as error:
            raise SegmentFileError(f"{target.name} cannot be written: {error}") from error
        finally:
            with suppress(OSError):
                unfinished.unlink()

    def read(self, files: Sequence[Path], *, after: StreamId, upto: StreamId) -> Iterator[list[Row]]:
        """What these segments of one source have after ``after`` up to ``upto``, by stream id, each entry once.

        Raises:
            SegmentFileError: one of them cannot be read.
        """
        yield from self._ask(files, _BETWEEN, [after[0], *after, upto[0], *upto], limit=None)

    def find(self, files: Sequence[Path], wanted: Wanted, *, after: Place | None, limit: int) -> list[Row]:
        """The first ``limit`` wanted entries of these segments beyond a place, by stream id, then source.

        Raises:
            SegmentFileError: one of them cannot be read.
        """
        conditions: list[str] = []
        values: list[Any] = []
        for condition, *given in [*_wanted(wanted), *_beyond(after)]:
            conditions.append(condition)
            values += given
        found: list[Row] = []
        for rows in self._ask(files, " AND ".join(conditions), values, limit=limit):
            found += rows
        return found

    def read_all(self, files: Sequence[Path], wanted: Wanted | None, *, after: Place | None) -> Iterator[list[Row]]:
        """All entries of these segments beyond a place, or the wanted of them, in the order of their places.

        Raises:
            SegmentFileError: one of them cannot be read.
        """
        conditions, values = ["true"], list[Any]()
        for condition, *given in [*_wanted(wanted), *_beyond(after)]:
            conditions.append(condition)
            values += given
        yield from self._ask(files, " AND ".join(conditions), values, limit=None)

    def _ask(
        self, files: Sequence[Path], where: str, values: Sequence[Any], *, limit: int | None
    ) -> Iterator[list[Row]]:
        bound = "" if limit is None else f" LIMIT {limit}"
        question = f"{_SELECT} WHERE {where} ORDER BY {_IN_ORDER}{bound}"
        for rows in self.ask(question, [[str(file) for file in files], *values]):
            yield [row_read(row) for row in rows]

    def ask(self, question: str, values: Sequence[Any] | Mapping[str, Any]) -> Iterator[list[tuple[Any, ...]]]:
        """What a question finds, a page at a time.

        Raises:
            SegmentFileError: a file cannot be read.
        """
        with self._working() as connection:
            connection.execute(question, values)
            while rows := connection.fetchmany(_PAGE):
                yield rows

    def ask_one(self, question: str, values: Sequence[Any]) -> tuple[Any, ...]:
        """The one row that a question about many has as its answer.

        Raises:
            SegmentFileError: a file cannot be read.
        """
        with self._working() as connection:
            row: tuple[Any, ...] | None = connection.execute(question, values).fetchone()
        if row is None:
            raise SegmentFileError(f"{question!r} has no answer")
        return row

    @contextmanager
    def _working(self) -> Generator[duckdb.DuckDBPyConnection]:
        """A connection of this thread's own, which `close` breaks off."""
        with self._rest:
            if self._closed:
                raise SegmentFileError("the archive is closed")
            if self._database is None:
                self._database = duckdb.connect(config=self._config)
            with suppress(OSError):  # it is told when it is needed, which is for what does not fit into memory
                self._folder.mkdir(parents=True, exist_ok=True)
            connection = self._database.cursor()
            self._at_work.add(connection)
        try:
            yield connection
        except duckdb.Error as error:
            raise SegmentFileError(str(error)) from error
        finally:
            with self._rest:
                self._at_work.discard(connection)
                connection.close()
                self._rest.notify_all()


def _wanted(wanted: Wanted | None) -> Iterator[tuple[Any, ...]]:
    if wanted is None:
        return
    yield "tenant = ?", wanted.tenant
    if wanted.kind is not None and wanted.id is not None:
        yield "topic = ?", f"{wanted.kind}:{wanted.id}"
    elif wanted.kind is not None:
        yield "starts_with(topic, ?)", f"{wanted.kind}:"
    elif wanted.id is not None:
        yield "topic IN (?, ?, ?)", *(f"{kind}:{wanted.id}" for kind in KINDS)
    if wanted.user_id is not None:
        yield "(user_id = ? OR topic = ?)", wanted.user_id, f"user:{wanted.user_id}"
    if wanted.type is not None:
        yield "type = ?", wanted.type
    if wanted.correlation_id is not None:
        yield "correlation_id = ?", wanted.correlation_id
    if wanted.since is not None:
        yield "stream_ms >= ?", wanted.since
    if wanted.until is not None:
        yield "stream_ms < ?", wanted.until


def _beyond(after: Place | None) -> Iterator[tuple[Any, ...]]:
    if after is not None:
        (milliseconds, sequence), stream, topic = after
        yield "stream_ms >= ?", milliseconds
        beyond = "(stream_ms, stream_seq, replace(stream, '-', ':'), coalesce(topic, '')) > (?, ?, ?, ?)"
        yield beyond, milliseconds, sequence, stream, topic


def _column(name: str, kind: str) -> str:
    if kind == "TIMESTAMP_MS":
        return f'make_timestamp_ms(unnest(?::BIGINT[])) AS "{name}"'
    return f'unnest(?::{kind}[]) AS "{name}"'


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
