"""Whether an archive is that of the deployment: what was archived last has to be in it."""

from redis.asyncio import Redis

from core.log.archive.archive import Archive
from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.keys import Keys
from pipai_contracts.record import BEGINNING


async def sources_lacking(redis: Redis, keys: Keys, archive: Archive) -> list[str]:
    """The names of the sources whose newest archived events it does not have: it is another one, or an old copy.

    Whoever reads it would take what Redis still has for all there is. What `ARCHIVE_RETENTION` gave up does not count,
    nor what a repartition dealt out anew, which is archived under other names.

    Raises:
        redis.exceptions.RedisError, StoreAwayError: Redis or the store does not answer.
    """
    sources, checkpoints = keys.sources(), ArchiveCheckpoints(redis)
    archived, moved = await checkpoints.load(sources), await checkpoints.moved(sources)
    given_up, ends = await archive.bases.newest() or 0, await archive.ends()  # asked later: they have no less
    return [
        source.name
        for source, reached in archived.items()
        if reached is not None
        and reached.offset > moved[source]
        and reached.stream_id.milliseconds >= given_up
        and reached.stream_id > ends.get(source.name, BEGINNING)
    ]
