"""One command at a time changes views or partitions of a deployment."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.keys import Keys
from core.runtime.lua import load_script
from core.runtime.tasks import running
from services.admin.command import RefusedError

ALONE_SECONDS: Final = 60
"""How long others are kept out by a command that was cut short."""

StillAlone = Callable[[], Awaitable[None]]
"""Raises `RefusedError` when another command may be at work by now; asked before what cannot be undone."""


@asynccontextmanager
async def alone(redis: Redis, keys: Keys, command: str) -> AsyncGenerator[StillAlone]:
    """Keep out other commands that want to be alone, while the block runs.

    A program that was held up for longer than `ALONE_SECONDS` has lost its right, and does not go on.

    Raises:
        RefusedError: another one is at work.
    """
    key, mine = keys.maintenance, f"{command} {secrets.token_hex(8)}"
    if not await redis.set(key, mine, nx=True, ex=ALONE_SECONDS):
        at_work = cast("bytes | None", await redis.get(key)) or b"another command"
        name = at_work.decode(errors="replace").partition(" ")[0]
        raise RefusedError(
            f"{name} is at work on this deployment, or was cut short less than {ALONE_SECONDS} s ago: "
            f"wait, then run this again"
        )
    keep = load_script(redis, __file__, "alone.lua")

    async def still_alone() -> None:
        if not await keep(keys=[key], args=[mine, ALONE_SECONDS]):
            raise RefusedError(f"held up for {ALONE_SECONDS} s, so another command may be at work: run this again")

    async def stay() -> None:
        while True:
            await asyncio.sleep(ALONE_SECONDS / 6)
            with suppress(RedisError, RefusedError):  # who is about to do something asks for itself
                await still_alone()

    try:
        async with running(stay()):
            yield still_alone
    finally:
        with suppress(RedisError):  # it goes by itself
            await keep(keys=[key], args=[mine, 0])
