"""How segments are called: which source a file is of, which day, and from which entry to which."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

from core.log.keys import SOURCES
from pipai_contracts.record import StreamId

SUFFIX: Final = ".parquet"
_FORM: Final = re.compile(
    r"stream=(?P<stream>[a-z-]+)/day=\d{4}-\d\d-\d\d/(?P<partition>all|\d{1,5})\.(?P<first>\d{1,20}-\d{1,20})"
    r"\.(?P<last>\d{1,20}-\d{1,20})\.parquet",
    re.ASCII,
)
LAST: Final = StreamId(2**64 - 1, 2**64 - 1)
"""The last id there can be."""

_LAST_SECOND: Final = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
_FOLDERS: Final = {source.replace(":", "-"): source for source in SOURCES}


class Segment(NamedTuple):
    """A file with the entries of one source from ``first`` to ``last``, all of one day (UTC); it is never changed.

    ``source`` is the source's name. Stretches of two segments may overlap where one was written again after a crash, or
    while small ones are brought together: what is in both is the same.
    """

    source: str
    first: StreamId
    last: StreamId

    @property
    def path(self) -> str:
        """Where it is below the archive: in a folder per stream and day, as Hive has them, so that tools can skip."""
        stream, partition = split_name(self.source)
        label = "all" if partition is None else str(partition)
        return f"{folder_of(stream, day_of(self.first))}/{label}.{self.first}.{self.last}{SUFFIX}"

    @classmethod
    def parse(cls, path: str) -> "Segment | None":
        """Read back what `path` gave; None for any other file."""
        found = _FORM.fullmatch(path)
        if found is None or found["stream"] not in _FOLDERS:
            return None
        stream, partition = _FOLDERS[found["stream"]], found["partition"]
        name = stream if partition == "all" else f"{stream}:{int(partition)}"
        segment = cls(name, StreamId.parse(found["first"]), StreamId.parse(found["last"]))
        return segment if segment.path == path else None


def split_name(source: str) -> tuple[str, int | None]:
    """The stream and the partition in a source's name; None where the deployment has one partition."""
    if source in SOURCES:
        return source, None
    stream, _, partition = source.rpartition(":")
    return stream, int(partition)


def stream_of(source: str) -> str:
    """The source stream that a source is of."""
    return split_name(source)[0]


def folder_of(stream: str, day: date) -> str:
    """The folder of a stream's segments of one day."""
    return f"{stream_folder(stream)}/day={day.isoformat()}"


def stream_folder(stream: str) -> str:
    """The folder of a stream's days."""
    return f"stream={stream.replace(':', '-')}"


def day_of(stream_id: StreamId) -> date:
    """The day (UTC) an entry was appended on; the last there is for an id another hand made up beyond it."""
    return datetime.fromtimestamp(min(stream_id.milliseconds // 1000, _LAST_SECOND), UTC).date()


def end_of_day(stream_id: StreamId) -> StreamId:
    """The first id that an entry of the day after could have."""
    if stream_id.milliseconds // 1000 > _LAST_SECOND - 24 * 3600:
        return LAST
    following = datetime.combine(day_of(stream_id) + timedelta(days=1), datetime.min.time(), UTC)
    return StreamId(int(following.timestamp()) * 1000, 0)
