"""What the log has no longer and the archive still has, where views have to hear of it again."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from typing import NamedTuple

from core.log.archive.parquet import SegmentFileError
from core.log.archive.store import StoreAwayError
from core.log.entry import Entry
from core.log.history import History
from core.log.keys import Source
from core.runtime.logs import get_logger
from pipai_contracts.record import StreamId

log = get_logger()


class Found(NamedTuple):
    """Entries that follow each other, as far as they are anywhere; ``parked``: those that are in no view."""

    entries: Sequence[Entry]
    parked: AbstractSet[StreamId] = frozenset()


async def with_archived(history: History, source: Source, after: StreamId, entries: Sequence[Entry]) -> Found:
    """The entries of the log beyond ``after``, or as many from further back where what is missing was archived.

    Views may go back a long way. While the archive fails it is as if there were none: nothing waits for it.

    Raises:
        redis.exceptions.RedisError: Redis did not answer.
    """
    found: list[Entry] = []
    parked: set[StreamId] = set()
    try:
        async with aclosing(history.read(source, after=after, upto=entries[-1].stream_id)) as logged:
            async for _, entry, is_parked in logged:
                found.append(entry)
                if is_parked:
                    parked.add(entry.stream_id)
                if len(found) == len(entries):
                    break
    except (StoreAwayError, SegmentFileError) as error:
        log.warning("archive cannot be asked for missing events", stream=source.key, error=str(error))
        return Found(entries)
    return Found(found or entries, parked)
