"""A sandbox: a slice of a deployment's history as a deployment of its own, under another key prefix."""

from collections.abc import AsyncIterator
from typing import Final, cast

from pydantic import BaseModel, ConfigDict, ValidationError
from redis.asyncio import Redis

from core.log.archive.rows import Row, entry_of
from core.log.archive.wanted import Wanted
from core.log.history import History
from core.log.keys import Keys
from core.log.layout import check_layout
from core.log.scan import keys_beginning
from core.log.slice import Placed, SliceWriter
from core.runtime.memory import memory_fault
from core.runtime.settings import Settings
from core.views.checkpoints import Checkpoints
from pipai_contracts.ids import DEFAULT_TENANT, Kind, Topic
from services.admin.command import Deployment, RefusedError
from services.admin.progress import Progress
from services.admin.quiet import refuse_while_at_work

_AT_ONCE: Final = 500
"""Keys that are removed in one go."""


class Slice(BaseModel):
    """What a sandbox is a copy of: events that were appended from ``since`` on and before ``until`` (ms since 1970).

    ``of`` is the prefix of the deployment, which had so many ``partitions``. ``events``: how many were copied; None
    while they are, or when that was cut short.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: str
    partitions: int
    since: int | None
    until: int
    kind: Kind | None = None
    id: str | None = None
    events: int | None = None
    left_out: int = 0

    @property
    def wanted(self) -> Wanted:
        """Which events of the history these are."""
        return Wanted(DEFAULT_TENANT, kind=self.kind, id=self.id, since=self.since, until=self.until)


class Sandbox:
    """The sandbox of one name on the deployment's Redis. It writes below that name alone."""

    def __init__(self, deployment: Deployment, name: str) -> None:
        """Make sure that the name is not the deployment's own.

        Raises:
            RefusedError: it is, or can be no prefix.
        """
        try:
            Settings.model_validate({"key_prefix": name})
        except ValidationError as error:
            raise RefusedError(f"{name!r} can be no key prefix: {error.errors()[0]['msg']}") from error
        if name == deployment.keys.prefix:
            raise RefusedError(f"{name} is the deployment itself: give the sandbox another name")
        self.name = name
        self._deployment = deployment
        self._redis: Redis = deployment.redis

    def keys(self, partitions: int) -> Keys:
        """Its keys."""
        return Keys(self.name, partitions)

    async def load(self) -> Slice:
        """What it is a copy of.

        Raises:
            RefusedError: there is no sandbox of that name, or it is not whole.
        """
        slice_ = await self._find()
        if slice_ is None:
            raise RefusedError(f"there is no sandbox {self.name}; make it with: pipai-admin replay --into {self.name}")
        if slice_.events is None:
            raise RefusedError(f"the sandbox {self.name} is not whole: its copying was cut short, or goes on; --fresh")
        return slice_

    async def make(self, history: History, wanted: Slice, *, most: int) -> Slice:
        """Copy the events of the slice.

        Raises:
            RefusedError: something stands under that name, there are more than ``most`` events, or Redis is full.
        """
        async for key in self._own_keys():
            raise RefusedError(
                f"{key} stands under that name already: choose another name, or --fresh where an earlier replay made it"
            )
        marker = Keys(self.name).sandbox
        if not await self._redis.set(marker, wanted.model_dump_json(), nx=True):
            raise RefusedError(f"another replay makes {self.name} just now")
        keys = self.keys(wanted.partitions)
        await check_layout(self._redis, keys)
        writer = SliceWriter(self._redis, keys, owner_ttl=self._deployment.settings.view_ttl)
        copied = left_out = 0
        progress = Progress("events copied")
        async for row in history.find_all(wanted.wanted):
            placed = _placed(row)
            if placed is None:
                left_out += 1
                continue
            copied += 1
            await self._refuse_too_much(copied, most)
            await writer.add(placed)
            progress.step()
        await writer.finish()
        made = wanted.model_copy(update={"events": copied, "left_out": left_out})
        await self._redis.set(marker, made.model_dump_json())
        return made

    async def _refuse_too_much(self, copied: int, most: int) -> None:
        if copied > most:
            await self.drop()
            raise RefusedError(f"these are more than {most} events: narrow it down, or raise --limit")
        fault = await memory_fault(self._redis) if copied % _AT_ONCE == 0 else None
        if fault is not None:
            await self.drop()
            raise RefusedError(f"the sandbox was dropped again: {fault}")

    async def drop(self) -> int:
        """Remove every key of the sandbox; the one that says what it is last. Returns how many there were.

        Raises:
            RefusedError: there is no sandbox of that name, or somebody works on it.
        """
        if await self._find() is None:
            raise RefusedError(f"{self.name} is no sandbox that a replay made; nothing was removed")
        await refuse_while_at_work(self._redis, Keys(self.name))
        marker, gone = Keys(self.name).sandbox, 0
        found = sorted({key async for key in self._own_keys()} - {marker})
        for start in range(0, len(found), _AT_ONCE):
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in found[start : start + _AT_ONCE]:
                    pipe.execute_command(
                        "UNLINK", key
                    )  # of a Cluster's pipeline `unlink` is none of its queued commands
                gone += sum(cast("list[int]", await pipe.execute()))
        return gone + await self._redis.unlink(marker)

    async def is_there(self) -> bool:
        """Whether an earlier replay made it."""
        return await self._find() is not None

    async def projected(self, slice_: Slice) -> int:
        """How many of its events are in its views, or were parked there."""
        checkpoints = await Checkpoints(self._redis, self.keys(slice_.partitions)).load_all(
            self.keys(slice_.partitions).sources()
        )
        return sum(copies.lowest.offset for copies in checkpoints.values())

    async def _own_keys(self) -> AsyncIterator[str]:
        for start in Keys(self.name).starts:
            async for key in keys_beginning(self._redis, start):
                yield key

    async def _find(self) -> Slice | None:
        stored = cast("bytes | None", await self._redis.get(Keys(self.name).sandbox))
        try:
            return None if stored is None else Slice.model_validate_json(stored)
        except ValidationError as error:
            raise RefusedError(f"{Keys(self.name).sandbox} is none of ours, or of another build") from error


def _placed(row: Row) -> Placed | None:
    """The row's entry where it goes; None for what is in no view."""
    if row.parked or row.v is None:
        return None
    try:
        return Placed(row.stream, Topic.parse(f"{row.tenant}:{row.topic}"), entry_of(row))
    except ValueError:
        return None
