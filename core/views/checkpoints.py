"""Checkpoints: up to which event of a source every view is committed."""

from typing import NamedTuple, cast

from redis.asyncio import Redis

from core.log.keys import Keys, Source
from core.runtime.lua import load_script
from core.views.errors import ViewsWentBackError
from pipai_contracts.record import BEGINNING, StreamId


class Checkpoint(NamedTuple):
    """Offset and stream id of the last event that is in every view it belongs to."""

    offset: int
    stream_id: StreamId


NOTHING = Checkpoint(0, BEGINNING)


class Checkpoints:
    """The checkpoints of one deployment.

    Every view partition keeps its own copy beside its views, because an event may have views in two of them and
    Redis may lose the latest writes of one alone. The lowest copy counts.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._advance = load_script(redis, __file__, "advance.lua")

    async def load(self, source: Source) -> Checkpoint:
        """The lowest checkpoint of the source; `NOTHING` where a view partition has none."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for partition in range(self._keys.partitions):
                pipe.hget(self._keys.checkpoint(partition), source.name)
            copies = cast("list[bytes | None]", await pipe.execute())
        return min((_parse(copy) for copy in copies), key=lambda checkpoint: checkpoint.stream_id)

    async def advance(self, source: Source, checkpoint: Checkpoint, *, since: Checkpoint) -> None:
        """Move the checkpoint forward in every view partition; one that is further already stays.

        ``since`` is the checkpoint the projected events followed.

        Raises:
            ViewsWentBackError: a partition's copy is older than that, and was left alone.
        """
        arguments = [source.name, checkpoint.offset, *checkpoint.stream_id, *since.stream_id]
        for partition in range(self._keys.partitions):
            if await self._advance(keys=[self._keys.checkpoint(partition)], args=arguments) == -1:
                raise ViewsWentBackError(f"checkpoint of {source.name} in view partition {partition}")


def _parse(copy: bytes | None) -> Checkpoint:
    """The checkpoint; `NOTHING` for one that was broken by hand, because projecting again is safe."""
    try:
        offset, stream_id = (copy or b"").split(b" ")
        return Checkpoint(int(offset), StreamId.parse(stream_id))
    except ValueError:
        return NOTHING
