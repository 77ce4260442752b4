"""``pipai-admin``: what an operator does to a deployment, straight on its Redis."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError
from redis.exceptions import RedisError

from core.log.archive.archive import Archive, SlowSearchError
from core.log.archive.parquet import SegmentFileError
from core.log.archive.place import ArchiveSettings
from core.log.archive.spooled import Spooled
from core.log.archive.store import StoreAwayError
from core.log.errors import LogError
from core.log.keys import Keys
from core.log.layout import Layout, load_layout, require_same
from core.runtime.loaded import expect_many_objects
from core.runtime.redis import command_client, safe_address
from core.runtime.settings import what_is_wrong
from services.admin.archive import ARCHIVE
from services.admin.audit import AUDIT
from services.admin.command import REFUSED, Command, Deployment, RefusedError
from services.admin.dead import DEAD
from services.admin.erase import ERASE
from services.admin.importing import IMPORT
from services.admin.rebuild import REBUILD
from services.admin.repartition import REPARTITION
from services.admin.replay import REPLAY
from services.admin.republish import REPUBLISH
from services.admin.verify import VERIFY

PROGRAM: Final = "pipai-admin"

COMMANDS: Final[tuple[Command, ...]] = (
    DEAD,
    VERIFY,
    REBUILD,
    REPARTITION,
    ARCHIVE,
    IMPORT,
    REPLAY,
    REPUBLISH,
    AUDIT,
    ERASE,
)


def main(arguments: Sequence[str], program: str = PROGRAM) -> int:
    """Carry out one command and return its exit code: 0 done, 1 something was found, 2 refused.

    docs/guides/operations.md has them by command. ``program`` is how this was called: refusals name commands to type.
    """
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add_arguments(subparsers.add_parser(command.name, help=command.help, description=command.help))
    chosen = parser.parse_args(arguments)
    try:
        settings = ArchiveSettings()
    except ValidationError as error:
        sys.stderr.write(f"{what_is_wrong(error)}\n")
        return REFUSED
    command = next(command for command in COMMANDS if command.name == chosen.command)
    code, refusal = asyncio.run(_carry_out(command, settings, chosen))
    if refusal:
        sys.stderr.write(f"{refusal.replace(PROGRAM, program)}\n")
    return code


def run() -> int:
    """The entry point of the installed program."""
    expect_many_objects()
    return main(sys.argv[1:])


async def _carry_out(command: Command, settings: ArchiveSettings, chosen: argparse.Namespace) -> tuple[int, str]:
    """The exit code, and why it was refused."""
    redis = command_client(settings.redis_address())
    archive: Archive | None = None
    try:
        layout = await load_layout(redis, Keys(settings.key_prefix))
        keys = Keys(settings.key_prefix, _partitions(settings, layout))
        archive = _open_archive(settings, Spooled(redis, keys))
        deployment = Deployment(settings, redis, keys, archive)
        if not command.guarded:
            return await command.carry_out(deployment, chosen), ""
        require_same(layout, deployment.keys)
        code = await command.carry_out(deployment, chosen)
        # A repartition that began meanwhile takes the keys away: what was found says nothing then.
        require_same(await load_layout(redis, deployment.keys), deployment.keys)
        return code, ""  # noqa: TRY300 - the errors of all of it are told alike
    except RefusedError as error:
        return REFUSED, str(error)
    except (RedisError, LogError) as error:
        return REFUSED, f"{safe_address(settings.redis_address())}: {error}"
    except (StoreAwayError, SegmentFileError, SlowSearchError) as error:
        why = "it takes too long, narrow it down" if isinstance(error, SlowSearchError) else str(error)
        return REFUSED, f"the archive cannot be read: {why}"
    finally:
        if archive is not None:
            archive.close()
        await redis.aclose()


def _open_archive(settings: ArchiveSettings, spooled: Spooled) -> Archive | None:
    """The archive to read.

    Raises:
        RefusedError: ``ARCHIVE_URL`` names none.
    """
    try:
        return settings.open_archive(spooled)
    except ValueError as error:
        raise RefusedError(str(error).partition("\n")[0]) from error


def _partitions(settings: ArchiveSettings, layout: Layout | None) -> int:
    """The deployment's own number unless STREAM_PARTITIONS names one: who looks at a deployment need not know it."""
    named = "stream_partitions" in settings.model_fields_set
    return settings.stream_partitions if named or layout is None else layout.partitions
