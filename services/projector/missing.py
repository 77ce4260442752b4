"""What the log has no longer and the archive still has, where views have to hear of it again."""

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from typing import Final, NamedTuple

from core.log.archive.parquet import SegmentFileError
from core.log.archive.store import StoreAwayError
from core.log.entry import Entry
from core.log.history import History
from core.log.keys import Source
from core.runtime.logs import get_logger
from pipai_contracts.record import StreamId

_WAITS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between questions to an archive that is away."""

log = get_logger()


class Found(NamedTuple):
    """Entries that follow each other, as far as they are anywhere; ``parked``: those that are in no view."""

    entries: Sequence[Entry]
    parked: AbstractSet[StreamId] = frozenset()


async def with_archived(history: History, source: Source, after: StreamId, entries: Sequence[Entry]) -> Found:
    """The entries of the log beyond ``after``, or as many from further back where what is missing was archived.

    Views may go back a long way. An archive that is away is asked again for some seconds: what it has would count as
    lost for good. After that it is as if there were none, and so it is at once where a segment is damaged.

    Raises:
        redis.exceptions.RedisError: Redis did not answer.
    """
    for wait in (*_WAITS, None):
        try:
            return await _ask(history, source, after, entries)
        except (StoreAwayError, SegmentFileError) as error:
            if wait is None or isinstance(error, SegmentFileError):
                log.warning("archive cannot be asked for missing events", stream=source.key, error=str(error))
                return Found(entries)
            await asyncio.sleep(wait)
    raise AssertionError


async def _ask(history: History, source: Source, after: StreamId, entries: Sequence[Entry]) -> Found:
    found: list[Entry] = []
    parked: set[StreamId] = set()
    async with aclosing(history.read(source, after=after, upto=entries[-1].stream_id)) as logged:
        async for _, entry, is_parked in logged:
            found.append(entry)
            if is_parked:
                parked.add(entry.stream_id)
            if len(found) == len(entries):
                break
    return Found(found or entries, parked)
