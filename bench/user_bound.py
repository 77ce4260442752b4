"""What one user takes of Redis' memory as their workflows grow: ``./run bench user_bound [--short]``.

Workflows of one user are started, and two in three ended, with a projector following, as in a deployment with default
settings. What belongs to the user must stop growing: their view and feed, and what all users share. What belongs to a
single workflow (its view, feed and owner) is there once for each, and expires ``VIEW_TTL`` after its last event.
Printed as a Markdown table, in KB of ``MEMORY USAGE``.
"""

import argparse
import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, cast

from redis.asyncio import Redis

from core.log.append import Appender
from core.log.keys import Keys
from core.runtime.clock import now
from core.runtime.logs import configure_logging
from core.runtime.redis import command_client
from core.views.checkpoints import Checkpoints
from pipai_contracts.envelope import Envelope
from pipai_contracts.events import WorkflowProgress
from pipai_contracts.ids import Topic
from services.projector.main import build
from services.projector.settings import ProjectorSettings
from services.standalone.embedded import redis_server

_PREFIX: Final = "bench"
_USER: Final = Topic("default", "user", "ada")
_CALL: Final = 100
_MOST_WAITING: Final = 5_000


def _envelopes(first: int, count: int) -> list[Envelope]:
    """A begin of each workflow, and of two in three an end."""
    return [
        Envelope(
            event_id=f"{number}-{progress}",
            time=now(),
            user_id=_USER.id,
            event=WorkflowProgress(
                workflow_id=f"workflow-{number}", step="processing", progress=progress, message="Analyzing document"
            ),
        )
        for number in range(first, first + count)
        for progress in (10, 100)
        if progress == 10 or number % 3
    ]


async def _caught_up(redis: Redis, keys: Keys, checkpoints: Checkpoints, *, within: int) -> None:
    """Wait until at most this many events are in no view."""
    source = keys.source("workflow:progress", 0)
    while True:
        newest = int(cast("bytes | None", await redis.get(source.offset)) or 0)
        if newest - (await checkpoints.load(source)).offset <= within:
            return
        await asyncio.sleep(0.02)


async def _row(redis: Redis, keys: Keys, workflows: int) -> str:
    topic = Topic("default", "workflow", f"workflow-{workflows - 1}")
    source = keys.source("workflow:progress", 0)
    own = [keys.view(topic), keys.feed(topic), source.owner(topic)]
    sizes = [
        await _bytes(redis, keys.view(_USER)),
        await _bytes(redis, keys.feed(_USER)),
        await _bytes(redis, source.key),
        await _bytes(redis, keys.changes(0)),
        sum([await _bytes(redis, key) for key in own]),
    ]
    return f"| {workflows:,} | " + " | ".join(f"{size / 1024:,.0f}" for size in sizes) + " |"


async def _bytes(redis: Redis, key: str) -> int:
    return await redis.memory_usage(key, samples=0) or 0


async def _measure(address: str, steps: list[int]) -> None:
    values: dict[str, Any] = {"redis_url": address, "key_prefix": _PREFIX}
    settings, keys = ProjectorSettings(**values), Keys(_PREFIX)
    configure_logging("bench", settings)
    async with AsyncExitStack() as stack:
        redis = command_client(address)
        stack.push_async_callback(redis.aclose)
        await stack.enter_async_context(build(settings, stack).running())
        appender, checkpoints = Appender(redis, keys, idempotency_window=60, owner_ttl=3600), Checkpoints(redis, keys)
        print("| workflows | user's view | user's feed | source stream | change feed | one workflow |")
        print("|---|---|---|---|---|---|")
        done = 0
        for workflows in steps:
            while done < workflows:
                await appender.append(_envelopes(done, _CALL))
                done += _CALL
                await _caught_up(redis, keys, checkpoints, within=_MOST_WAITING)
            await _caught_up(redis, keys, checkpoints, within=0)
            print(await _row(redis, keys, workflows), flush=True)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a few workflows, to see that it works")
    short = parser.parse_args().short
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as server:
        asyncio.run(_measure(server.address, [100, 500, 1000] if short else [1_000, 10_000, 100_000]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
