"""``pipai-admin archive``: how far the archive is, and giving it up; and whether it is the right one."""

import sys
from argparse import ArgumentParser, Namespace
from typing import Final

from core.log.archive.belonging import sources_lacking
from core.log.archive.checkpoints import ArchiveCheckpoints
from core.views.checkpoints import Checkpoints
from services.admin.command import DONE, Command, Deployment, RefusedError


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("what", choices=["status", "off"], help="status: how far it is; off: archive nothing any more")


async def _carry_out(deployment: Deployment, chosen: Namespace) -> int:
    """Tell how far each source is archived, or have none archived from now on."""
    if chosen.what == "off":
        return await _switch_off(deployment)
    sources = deployment.keys.sources()
    archived = await ArchiveCheckpoints(deployment.redis).load(sources)
    projected = await Checkpoints(deployment.redis, deployment.keys).load_all(sources)
    for source in sources:
        reached = archived[source]
        if reached is None:
            sys.stdout.write(f"{source.name}: not archived\n")
        else:
            waiting = max(0, projected[source].lowest.offset - reached.offset)
            sys.stdout.write(f"{source.name}: archived up to {reached.stream_id}, {waiting} events wait\n")
    return DONE


async def require_own_archive(deployment: Deployment) -> None:
    """Have commands that go by the whole history look at the archive that the deployment's archiver writes.

    Where ``ARCHIVE_URL`` is ``off`` they go by the log, knowingly.

    Raises:
        RefusedError: it is another one.
        redis.exceptions.RedisError, StoreAwayError: Redis or the store does not answer.
    """
    if deployment.archive is None:
        return
    lacking = await sources_lacking(deployment.redis, deployment.keys, deployment.archive)
    if lacking:
        names = ", ".join(lacking)
        raise RefusedError(
            f"nothing was done: this archive is not the deployment's, it lacks what was archived last of {names}. "
            "ARCHIVE_URL and ARCHIVE_SPOOL have to be here what they are for the archiver"
        )


async def is_archived(deployment: Deployment) -> bool:
    """Whether an archiver has ever looked at the deployment, and was not switched off."""
    archived = await ArchiveCheckpoints(deployment.redis).load(deployment.keys.sources())
    return any(reached is not None for reached in archived.values())


async def _switch_off(deployment: Deployment) -> int:
    """Let everything be trimmed that is in its views.

    Raises:
        RefusedError: an archiver is at work, which would switch it on again.
    """
    holder = await deployment.redis.get(deployment.keys.archiver)
    if holder is not None:
        name = holder.decode(errors="replace") if isinstance(holder, bytes) else holder
        raise RefusedError(
            f"the archiver {name} is at work: stop it, wait until its lease has run out, then run this again"
        )
    await ArchiveCheckpoints(deployment.redis).forget(deployment.keys.sources())
    sys.stdout.write("nothing is archived any more; what is archived stays where it is\n")
    return DONE


ARCHIVE: Final = Command("archive", "how far the archive is, and giving it up", _add_arguments, _carry_out)
