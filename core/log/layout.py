"""The layout of a deployment: how its keys are spread over partitions, written down in Redis at the first start.

A process with another number of partitions would append where nobody reads, and show views that nobody writes. So
every process checks before it touches anything.
"""

import re
from typing import Final, Literal, NamedTuple, cast

from redis.asyncio import Redis

from core.log.errors import LogError
from core.log.keys import Keys
from core.runtime.lua import load_script

Phase = Literal["copying", "deleting", "placing"]
"""How far a repartition is: the new keys are made beside the old ones; the old are deleted; the new get their names."""

_FORM: Final = re.compile(
    r"^partitions=(?P<old>[1-9]\d{0,2})(->(?P<new>[1-9]\d{0,2}) phase=(?P<phase>copying|deleting|placing))?$", re.ASCII
)


class LayoutError(LogError):
    """This process and the deployment do not agree on the layout; the message says what to do."""


class Layout(NamedTuple):
    """The number of partitions; while that is being changed also the new number, and how far it is."""

    partitions: int
    to: int | None = None
    phase: Phase | None = None

    def __str__(self) -> str:
        """The stored form: words ``name=value``."""
        if self.to is None:
            return f"partitions={self.partitions}"
        return f"partitions={self.partitions}->{self.to} phase={self.phase}"

    @classmethod
    def parse(cls, stored: bytes, key: str) -> "Layout":
        """Read the stored form.

        Raises:
            LayoutError: it is none.
        """
        found = _FORM.fullmatch(stored.decode(errors="replace"))
        if found is None:
            raise LayoutError(
                f"{key} holds {stored[:80]!r}, which is no layout this build knows; "
                f"if it was written by hand, set it to partitions=<STREAM_PARTITIONS of the deployment>"
            )
        to, phase = found["new"], cast("Phase | None", found["phase"])
        return cls(int(found["old"]), int(to) if to else None, phase)


TRUSTED_SECONDS: Final = 1.0
"""How long who appends goes on without looking at the layout again."""


async def check_layout(redis: Redis, keys: Keys) -> None:
    """Check that the deployment has this process's number of partitions; the first process of all writes it down.

    So does the first that looks after a FLUSHALL under running services; those of another number notice when they look.

    Raises:
        LayoutError: it has another number, or is being repartitioned.
        redis.exceptions.RedisError: Redis did not answer.
    """
    layout = await load_layout(redis, keys)
    if layout is None:  # only then: a full Redis refuses every write, even one that would change nothing
        await redis.set(keys.layout, str(Layout(keys.partitions)), nx=True)
        layout = await load_layout(redis, keys)
    require_same(layout, keys)


def require_same(layout: Layout | None, keys: Keys) -> None:
    """Check that a deployment of this layout can be used with these keys; one without a layout can.

    Raises:
        LayoutError: it has another number of partitions, or is being repartitioned.
    """
    if layout is None:
        return
    if layout.to is not None:
        raise LayoutError(
            f"the deployment is being repartitioned from {layout.partitions} to {layout.to} partitions: wait until "
            f"that has ended; if it was cut short, run: pipai-admin repartition --to {layout.to} --yes"
        )
    if layout.partitions != keys.partitions:
        raise LayoutError(
            f"STREAM_PARTITIONS is {keys.partitions} here, but the deployment has {layout.partitions}: set it to "
            f"{layout.partitions}, or stop every service and run: pipai-admin repartition --to {keys.partitions} --yes"
        )


async def load_layout(redis: Redis, keys: Keys) -> Layout | None:
    """The deployment's layout; None before its first start.

    Raises:
        LayoutError: what is stored is none.
    """
    stored = cast("bytes | None", await redis.get(keys.layout))
    return None if stored is None else Layout.parse(stored, keys.layout)


async def change_layout(redis: Redis, keys: Keys, before: Layout | None, after: Layout) -> None:
    """Replace the layout by another.

    Raises:
        LayoutError: it is not ``before`` any more.
    """
    change = load_script(redis, __file__, "layout.lua")
    if not await change(keys=[keys.layout], args=["" if before is None else str(before), str(after)]):
        raise LayoutError(f"another program changed {keys.layout}, which was {before}; look at it, then run this again")
