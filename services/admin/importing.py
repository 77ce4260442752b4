"""``pipai-admin import``: an exported history as the log of a deployment of its own."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from core.log.exported import Survey, entries_in, survey
from core.log.keys import Keys
from core.log.layout import check_layout
from core.log.slice import NewerEntriesError, SliceWriter
from services.admin.command import DONE, Command, Deployment, RefusedError
from services.admin.progress import Progress
from services.admin.words import counted, plain


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="what pipai history export wrote")


def look_through(file: Path, keys: Keys) -> Survey:
    """What is in the file.

    Raises:
        RefusedError: it cannot be read, or lines of it cannot be used; it names them.
    """
    try:
        found = survey(file, keys)
    except OSError as error:
        raise RefusedError(f"{file} cannot be read: {error.strerror}") from error
    if found.faults:
        told = "\n".join(plain(fault) for fault in found.faults)
        raise RefusedError(f"{told}\nnothing was imported")
    return found


async def import_file(redis: Redis, keys: Keys, file: Path, *, owner_ttl: int) -> str:
    """Write the file's events into the log of the deployment, and say what came of it.

    Raises:
        RefusedError: the file cannot be used, or the log has newer entries; nothing was written.
        core.log.errors.LogError, redis.exceptions.RedisError: it was cut short; some events may be written.
    """
    found = look_through(file, keys)
    writer = SliceWriter(redis, keys, owner_ttl=owner_ttl)
    try:
        await writer.check_room(found.first)
    except NewerEntriesError as error:
        raise RefusedError(f"nothing was imported: {error}") from error
    await check_layout(redis, keys)
    progress = Progress("events imported")
    for placed in entries_in(file, keys):
        await writer.add(placed)
        progress.step()
    await writer.finish()
    left_out = f", {found.left_out} left out that were parked or are no event" if found.left_out else ""
    return f"{counted(writer.written, 'event')} imported{left_out}"


async def _import(deployment: Deployment, chosen: Namespace) -> int:
    ttl = deployment.settings.view_ttl
    told = await import_file(deployment.redis, deployment.keys, chosen.file, owner_ttl=ttl)
    sys.stdout.write(f"{told} under {deployment.keys.prefix}\n")
    return DONE


IMPORT: Final = Command("import", "write an exported history into an empty deployment's log", _add_arguments, _import)
