"""Checkpoints of the archiver: up to which event of a source all is on its disk, and may be trimmed.

The checkpoint says that the source is archived at all: as long as it is there, nothing beyond it is trimmed, also when
no archiver runs. It is kept in the source's slot, so that whoever loses the newest entries loses it with them.
"""

from collections.abc import Sequence
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from core.log.checkpoint import NOTHING, Checkpoint
from core.log.keys import ARCHIVER_GROUP, Source
from core.runtime.lua import load_script


class ArchiveCheckpoints:
    """The archiver's checkpoints, and its consumer group, which shows others how far it is.

    Every method raises `redis.exceptions.RedisError` when Redis does not answer.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._advance = load_script(redis, __file__, "archived.lua")

    async def load(self, sources: Sequence[Source]) -> dict[Source, Checkpoint | None]:
        """How far each source is archived; None where it is not archived at all."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for source in sources:
                pipe.get(source.archived)
            stored = cast("list[bytes | None]", await pipe.execute())
        return {
            source: None if text is None else Checkpoint.parse(text)
            for source, text in zip(sources, stored, strict=True)
        }

    async def moved(self, sources: Sequence[Source]) -> dict[Source, int]:
        """Up to which offset a repartition dealt out each source anew: what is missing there was archived before."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for source in sources:
                pipe.get(source.moved)
            stored = cast("list[bytes | None]", await pipe.execute())
        return {source: int(text or 0) for source, text in zip(sources, stored, strict=True)}

    async def begin(self, source: Source) -> Checkpoint:
        """Have the source archived from its oldest entry on, unless it is already; returns how far it is."""
        await self._redis.set(source.archived, str(NOTHING), nx=True)
        return Checkpoint.parse(cast("bytes | None", await self._redis.get(source.archived)))

    async def advance(self, source: Source, checkpoint: Checkpoint, *, since: Checkpoint) -> bool:
        """Let everything up to here be trimmed; False, and nothing, when the checkpoint is not ``since`` any more.

        So it is too when the log went back behind what was archived: that has to be looked at again.
        """
        moved = await self._advance(
            keys=[source.archived, source.key], args=[str(since), str(checkpoint), *checkpoint.stream_id]
        )
        if moved:
            await self._show(source, checkpoint)
        return bool(moved)

    async def forget(self, sources: Sequence[Source]) -> None:
        """Archive these no longer: what is not archived yet may be trimmed."""
        for source in sources:
            await self._redis.unlink(source.archived)
            try:
                await self._redis.xgroup_destroy(source.key, ARCHIVER_GROUP)
            except ResponseError as error:
                if "no such key" not in str(error) and "requires the key to exist" not in str(error):
                    raise

    async def _show(self, source: Source, checkpoint: Checkpoint) -> None:
        """Have the group stand where the checkpoint does; it may have been destroyed."""
        place = str(checkpoint.stream_id)
        try:
            await self._redis.xgroup_setid(source.key, ARCHIVER_GROUP, place, entries_read=checkpoint.offset)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self._redis.xgroup_create(
                source.key, ARCHIVER_GROUP, place, mkstream=True, entries_read=checkpoint.offset
            )
