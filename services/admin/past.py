"""All events of a deployment, for commands that look further back than Redis does."""

from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager

from pydantic import ValidationError

from core.log.archive.archive import SlowSearchError
from core.log.archive.parquet import SegmentFileError
from core.log.archive.place import ArchiveSettings
from core.log.archive.rows import Row
from core.log.archive.spooled import Spooled
from core.log.archive.store import StoreAwayError
from core.log.archive.wanted import Place, Wanted
from core.log.history import History
from core.log.replay import LogReader
from core.runtime.settings import what_is_wrong
from services.admin.command import Deployment, RefusedError

_PAGE = 500
"""Events in memory at once: of the largest that is 125 MB."""


@contextmanager
def opened_history(deployment: Deployment) -> Generator[History]:
    """The history of the deployment, with the archive that the settings name.

    Raises:
        RefusedError: the settings cannot be used; also where the archive fails in the block.
    """
    redis, keys = deployment.redis, deployment.keys
    try:
        archive = ArchiveSettings().open_archive(Spooled(redis, keys))
    except ValidationError as error:
        raise RefusedError(what_is_wrong(error)) from error
    except ValueError as error:
        raise RefusedError(str(error).partition("\n")[0]) from error
    try:
        yield History(LogReader(redis, keys), keys, archive)
    except (StoreAwayError, SegmentFileError, SlowSearchError) as error:
        why = "it takes too long, narrow it down" if isinstance(error, SlowSearchError) else str(error)
        raise RefusedError(f"the archive cannot be read: {why}") from error
    finally:
        if archive is not None:
            archive.close()


async def rows_of(history: History, wanted: Wanted) -> AsyncGenerator[Row]:
    """Every wanted entry, in the order of their places."""
    after: Place | None = None
    while page := await history.find(wanted, after=after, limit=_PAGE):
        for row in page:
            yield row
        after = page[-1].place
