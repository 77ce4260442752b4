"""``pipai-admin replay``: a slice of history folded once more, beside the deployment and without touching it."""

import asyncio
import os
import sys
from argparse import ArgumentParser, Namespace
from typing import Final

from core.runtime.ports import free_port
from core.runtime.redis import ask_holder
from pipai_contracts.ids import KINDS, check_id
from services.admin.archive import require_own_archive
from services.admin.command import DONE, Command, Deployment, RefusedError
from services.admin.processes import Processes, running
from services.admin.progress import Progress
from services.admin.sandbox import Sandbox, Slice
from services.admin.selection import moment
from services.admin.words import counted

_MOST: Final = 200_000
"""Events copied unless --limit says more: they take memory of the deployment's Redis."""

_LOOK_EVERY: Final = 0.1


def _add_arguments(parser: ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--into", metavar="NAME", help="copy the slice under this key prefix, and project it there")
    what.add_argument("--drop", metavar="NAME", help="remove a sandbox again")
    parser.add_argument("--from", dest="since", type=moment, metavar="TIME", help="appended then or later, RFC 3339")
    parser.add_argument("--to", dest="until", type=moment, metavar="TIME", help="appended before; now unless told")
    parser.add_argument("--kind", choices=KINDS, help="of topics of this kind")
    parser.add_argument("--id", help="of topics with this id")
    parser.add_argument("--fresh", action="store_true", help="drop the sandbox of that name first")
    parser.add_argument("--once", action="store_true", help="end when all is projected, and serve nothing")
    parser.add_argument("--port", type=int, help="where the sandbox's api listens; any free port unless told")
    parser.add_argument("--limit", type=int, default=_MOST, help="refuse more events (default: %(default)s)")


async def _replay(deployment: Deployment, chosen: Namespace) -> int:
    if chosen.drop is not None:
        gone = await Sandbox(deployment, chosen.drop).drop()
        sys.stdout.write(f"{chosen.drop} is dropped: {counted(gone, 'key')}\n")
        return DONE
    await require_own_archive(deployment)
    sandbox = Sandbox(deployment, chosen.into)
    wanted = await _wanted(deployment, chosen)
    if chosen.fresh and await sandbox.is_there():
        await sandbox.drop()
    made = await sandbox.make(deployment.history, wanted, most=chosen.limit)
    left_out = f", {made.left_out} left out that were parked or are no event" if made.left_out else ""
    sys.stdout.write(f"{counted(made.events or 0, 'event')} of {made.of} copied into {sandbox.name}{left_out}\n")
    sys.stdout.flush()
    return await _project(deployment, sandbox, made, chosen)


async def _wanted(deployment: Deployment, chosen: Namespace) -> Slice:
    """What is asked for; without an end it ends now, by Redis's clock, so that it stays the same slice."""
    try:
        resource_id = None if chosen.id is None else check_id(chosen.id)
    except ValueError as error:
        raise RefusedError(f"--id {error}") from error
    seconds, micros = await ask_holder(deployment.redis, deployment.keys.layout, "TIME")
    until = seconds * 1000 + micros // 1000 + 1 if chosen.until is None else chosen.until
    if chosen.since is not None and chosen.since >= until:
        raise RefusedError("--from is not before --to")
    return Slice(
        of=deployment.keys.prefix,
        partitions=deployment.keys.partitions,
        since=chosen.since,
        until=until,
        kind=chosen.kind,
        id=resource_id,
    )


async def _project(deployment: Deployment, sandbox: Sandbox, made: Slice, chosen: Namespace) -> int:
    port = chosen.port or free_port()
    modules = ["services.projector"] if chosen.once else ["services.projector", "services.api"]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")},  # it knows of now
        "REDIS_URL": deployment.settings.redis_address(),
        "KEY_PREFIX": sandbox.name,
        "STREAM_PARTITIONS": str(made.partitions),
        # It has no archive: what its own projector trimmed would be missing from its history.
        "STREAM_MAX_ENTRIES": str(max(deployment.settings.stream_max_entries, made.events or 0)),
        "ARCHIVE_URL": "off",
        "METRICS_PORT": "0",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "API_WORKERS": "1",
    }
    async with running(modules, environment) as processes:
        if not chosen.once:
            sys.stdout.write(f"its api: http://127.0.0.1:{port}/docs; Ctrl-C ends it\n")
            sys.stdout.flush()
        if await processes.until(_until_projected(sandbox, made)):
            sys.stdout.write(f"all of it is projected; pipai-admin verify --against {sandbox.name} compares\n")
            sys.stdout.flush()
            if not chosen.once:
                await _until_stopped(processes)
        elif chosen.once:
            raise RefusedError("stopped before all was projected")
    return DONE


async def _until_projected(sandbox: Sandbox, made: Slice) -> None:
    progress, before = Progress("events projected"), 0
    while (reached := await sandbox.projected(made)) < (made.events or 0):
        progress.step(reached - before)
        before = reached
        await asyncio.sleep(_LOOK_EVERY)


async def _until_stopped(processes: Processes) -> None:
    await processes.until(asyncio.sleep(float("inf")))


REPLAY: Final = Command(
    "replay", "copy a slice of history into a sandbox, and project it there with this build", _add_arguments, _replay
)
