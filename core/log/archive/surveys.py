"""What segments have, without their rows: questions about whole files. All take their time: ask from a thread."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from core.log.archive.parquet import BY_ID, Parquet
from core.log.checkpoint import NOTHING, Checkpoint
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, StreamId

_HOLES: Final = f"""
WITH entries AS (
    SELECT "offset", {BY_ID}, lag("offset", 1, ?::BIGINT) OVER (ORDER BY {BY_ID}) AS before
    FROM (SELECT DISTINCT "offset", {BY_ID} FROM read_parquet(?) WHERE "offset" > 0)
)
SELECT
    max(({BY_ID})) FILTER ("offset" > before + 1 AND "offset" - 1 > ?),
    arg_max("offset", ({BY_ID})),
    max(({BY_ID}))
FROM entries
"""  # noqa: S608 - of constants
_SIZE_UP: Final = (
    "SELECT count(*), approx_count_distinct((tenant, topic)) + approx_count_distinct((tenant, user_id)) "
    "FROM read_parquet(?)"
)
_HEARD_OF: Final = """
SELECT DISTINCT tenant, name FROM (
    SELECT tenant, topic AS name FROM read_parquet($files)
    UNION ALL
    SELECT tenant, 'user:' || user_id FROM read_parquet($files)
) WHERE tenant IS NOT NULL AND name IN (SELECT unnest($names::VARCHAR[]))
"""


def holes(parquet: Parquet, files: Sequence[Path], before: int, moved: int) -> tuple[StreamId, Checkpoint]:
    """From where on a source is without a hole in some of its segments, by their offsets, and where these end.

    `BEGINNING` when nothing is missing behind offset ``before``. A hole is where an offset does not follow the one
    before; one that is lower was given again by a log that went back. ``moved``: see `Continuity`.

    Raises:
        SegmentFileError: one of them cannot be read.
    """
    since, offset, end = parquet.ask_one(_HOLES, [before, [str(file) for file in files], moved])
    if end is None:
        return BEGINNING, NOTHING
    return BEGINNING if since is None else StreamId(*since), Checkpoint(offset, StreamId(*end))


def topics(parquet: Parquet, files: Sequence[Path]) -> list[tuple[str, str, str | None]]:
    """Tenant, topic and owner of the entries in these segments, each once.

    Raises:
        SegmentFileError: one of them cannot be read.
    """
    question = "SELECT DISTINCT tenant, topic, user_id FROM read_parquet(?) WHERE tenant IS NOT NULL"
    return [row for page in parquet.ask(question, [[str(file) for file in files]]) for row in page]


def heard_of(parquet: Parquet, files: Sequence[Path], topics: Collection[Topic]) -> set[Topic]:
    """Those of the topics that have events in these segments; a user has those of what is theirs, too.

    Raises:
        SegmentFileError: one of them cannot be read.
    """
    values = {"files": [str(file) for file in files], "names": [topic.name for topic in topics]}
    paths = {f"{tenant}:{name}" for page in parquet.ask(_HEARD_OF, values) for tenant, name in page}
    return {topic for topic in topics if topic.path in paths}


def owned(parquet: Parquet, files: Sequence[Path], tenant: str, user_id: str) -> list[tuple[str, int]]:
    """The topics in these segments with events that are the user's, and how many; the user's own among them.

    Raises:
        SegmentFileError: one of them cannot be read.
    """
    of_user = "tenant = ? AND (user_id = ? OR topic = ?)"
    entries = f"SELECT DISTINCT topic, {BY_ID}, event_id FROM read_parquet(?) WHERE {of_user}"  # noqa: S608 - of constants
    question = f"SELECT topic, count(*) FROM ({entries}) WHERE topic IS NOT NULL GROUP BY topic"  # noqa: S608 - likewise
    values = [[str(file) for file in files], tenant, user_id, f"user:{user_id}"]
    return [row for page in parquet.ask(question, values) for row in page]


def owners(parquet: Parquet, files: Sequence[Path], tenant: str, names: Collection[str]) -> set[str]:
    """The users who own events of these topics in these segments.

    Raises:
        SegmentFileError: one of them cannot be read.
    """
    of_topics = "tenant = ? AND user_id IS NOT NULL AND topic IN (SELECT unnest(?::VARCHAR[]))"
    question = f"SELECT DISTINCT user_id FROM read_parquet(?) WHERE {of_topics}"  # noqa: S608 - of constants
    values = [[str(file) for file in files], tenant, list(names)]
    return {user_id for page in parquet.ask(question, values) for (user_id,) in page}


def size_up(parquet: Parquet, files: Sequence[Path]) -> tuple[int, int]:
    """About how many entries these segments have, and how many topics and users these are of.

    Raises:
        SegmentFileError: one of them cannot be read.
    """
    entries, topics = parquet.ask_one(_SIZE_UP, [[str(file) for file in files]])
    return entries, topics
