"""Checkpoints of the views: up to which event of a source every view is committed."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis

from core.log.checkpoint import Checkpoint
from core.log.keys import Keys, Source
from core.runtime.lua import load_script
from core.views.errors import GenerationChangedError, ViewsWentBackError
from core.views.newest import CHANGE_FEED
from pipai_contracts.record import StreamId


class Copies(NamedTuple):
    """A source's checkpoint in the view partition that is furthest behind with it, and in the one furthest ahead."""

    lowest: Checkpoint
    highest: Checkpoint


class Known(NamedTuple):
    """What a projector knows of a view partition: its generation, and the number of its newest change."""

    generation: int | None
    change: int | None


class Checkpoints:
    """The checkpoints of one deployment.

    Every view partition keeps its own copy beside its views, because an event may have views in two of them and
    Redis may lose the latest writes of one alone. The lowest copy counts.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._advance = load_script(redis, __file__, CHANGE_FEED, "advance.lua")

    async def load(self, source: Source) -> Checkpoint:
        """The lowest checkpoint of the source; `NOTHING` where a view partition has none."""
        return (await self.load_all([source]))[source].lowest

    async def load_all(self, sources: Collection[Source]) -> dict[Source, Copies]:
        """The checkpoints of several sources, with one question for each view partition."""
        names = [source.name for source in sources]
        async with self._redis.pipeline(transaction=False) as pipe:
            for partition in range(self._keys.partitions):
                pipe.hmget(self._keys.checkpoint(partition), names)
            rows = cast("list[list[bytes | None]]", await pipe.execute())
        found: dict[Source, Copies] = {}
        for source, *copies in zip(sources, *rows, strict=True):
            checkpoints = sorted(
                (Checkpoint.parse(copy) for copy in copies), key=lambda checkpoint: checkpoint.stream_id
            )
            found[source] = Copies(checkpoints[0], checkpoints[-1])
        return found

    async def load_own(self, sources: Sequence[Source]) -> dict[Source, Checkpoint]:
        """Each source's checkpoint as the view partition of the same number has it.

        That is cheap to ask for of all sources, and tells how busy projectors are. Where to go on tells `load` alone:
        another partition may have lost its latest writes.
        """
        at: dict[int, list[Source]] = {}
        for source in sources:
            at.setdefault(source.partition, []).append(source)
        async with self._redis.pipeline(transaction=False) as pipe:
            for partition, its_own in at.items():
                pipe.hmget(self._keys.checkpoint(partition), [source.name for source in its_own])
            rows = cast("list[list[bytes | None]]", await pipe.execute())
        return {
            source: Checkpoint.parse(copy)
            for its_own, row in zip(at.values(), rows, strict=True)
            for source, copy in zip(its_own, row, strict=True)
        }

    async def advance(
        self, source: Source, checkpoint: Checkpoint, *, since: Checkpoint, known: Mapping[int, Known] | None = None
    ) -> None:
        """Move the checkpoint forward in every view partition; one that is further already stays.

        ``since`` is the checkpoint the projected events followed; ``known`` what is known of the view partitions.

        Raises:
            ViewsWentBackError: a partition is older than any of these, and was left alone.
            GenerationChangedError: a partition's generation is another, and it was left alone.
        """
        keys = self._keys
        arguments = [source.name, checkpoint.offset, *checkpoint.stream_id, *since.stream_id]
        for partition in range(keys.partitions):
            generation, change = (known or {}).get(partition, Known(None, None))
            outcome = await self._advance(
                keys=[keys.checkpoint(partition), keys.generation(partition), keys.changes(partition)],
                args=[*arguments, "" if generation is None else generation, "" if change is None else change],
            )
            if isinstance(outcome, bytes):
                error = GenerationChangedError if outcome == b"generation" else ViewsWentBackError
                raise error(f"checkpoint of {source.name} in view partition {partition}")

    async def put_back(self, source: Source, checkpoint: Checkpoint, *, beyond: StreamId) -> None:
        """Replace every copy that is beyond this stream id, whoever wrote it."""
        for partition in range(self._keys.partitions):
            key = self._keys.checkpoint(partition)
            copy = cast("bytes | None", await cast("Any", self._redis).hget(key, source.name))
            if Checkpoint.parse(copy).stream_id > beyond:
                await cast("Any", self._redis).hset(key, source.name, str(checkpoint))
