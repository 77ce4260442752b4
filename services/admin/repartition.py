"""``pipai-admin repartition``: another number of partitions, for a deployment that stands still.

The new keys are made under staged names beside the old ones, and checked; only then the old are deleted, and the new
get their names. The layout key says how far it is, so no service starts meanwhile, and whoever runs the command again
after a crash goes on from there.
"""

import asyncio
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Final

from redis.asyncio import Redis

from core.log.keys import Keys
from core.log.layout import TRUSTED_SECONDS, Layout, Phase, change_layout, load_layout
from services.admin.alone import StillAlone, alone
from services.admin.command import DONE, Command, Deployment, RefusedError
from services.admin.move_log import LogMover
from services.admin.move_rest import RestMover
from services.admin.place import check_staged, delete_old, drop_staged, place_staged
from services.admin.progress import Progress
from services.admin.quiet import offsets, refuse_unprojected, refuse_while_at_work

MAX_PARTITIONS: Final = 256


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--to", type=_partitions, required=True, help="number of partitions to have")
    parser.add_argument("--dry-run", action="store_true", help="say what there is to do, change nothing")
    parser.add_argument("--yes", action="store_true", help="do it: without this the command only says what it would do")


def _partitions(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_PARTITIONS:
        raise ArgumentTypeError(f"must be a number from 1 to {MAX_PARTITIONS}, not {text!r}")
    return int(text)


async def _repartition(deployment: Deployment, chosen: Namespace) -> int:
    """Bring the deployment to ``--to`` partitions, or refuse."""
    redis, keys = deployment.redis, deployment.keys
    layout = await load_layout(redis, keys)
    now = layout or Layout(keys.partitions)
    if now.to is None and now.partitions == chosen.to:
        sys.stdout.write(f"the deployment has {now.partitions} partitions already\n")
        return DONE
    going_back = now.phase == "copying" and now.partitions == chosen.to
    if now.to is not None and now.to != chosen.to and not going_back:
        back = f", or go back with --to {now.partitions} --yes" if now.phase == "copying" else ""
        raise RefusedError(
            f"a repartition from {now.partitions} to {now.to} is under way: finish it with --to {now.to} --yes{back}"
        )
    async with alone(redis, keys, "repartition") as still_alone:
        await refuse_while_at_work(redis, keys)
        if going_back:
            return await _go_back(redis, keys, now, chosen, still_alone)
        return await _Repartition(redis, keys.prefix, now.partitions, chosen.to, still_alone).run(layout, chosen)


async def _go_back(redis: Redis, keys: Keys, now: Layout, chosen: Namespace, still_alone: StillAlone) -> int:
    if chosen.dry_run or not chosen.yes:
        sys.stdout.write(f"would drop what was copied for {now.to} partitions and stay with {now.partitions}\n")
        return _end_of_plan(chosen)
    await drop_staged(redis, keys.prefix, still_alone)
    await change_layout(redis, keys, now, Layout(now.partitions))
    sys.stdout.write(f"the deployment stays with {now.partitions} partitions\n")
    return DONE


def _end_of_plan(chosen: Namespace) -> int:
    if chosen.dry_run:
        return DONE
    raise RefusedError("nothing was changed: say --yes to do it, on a deployment that nobody uses meanwhile")


class _Repartition:
    """One run of the command, from one number of partitions to another."""

    def __init__(self, redis: Redis, prefix: str, old: int, new: int, still_alone: StillAlone) -> None:
        self._redis = redis
        self._still_alone = still_alone
        self._old = Keys(prefix, old)
        self._new = Keys(prefix, new)

    async def run(self, layout: Layout | None, chosen: Namespace) -> int:
        """Go on from where the layout says."""
        phase: Phase | None = layout.phase if layout else None
        if phase in {None, "copying"}:
            await refuse_unprojected(self._redis, self._old)
        if chosen.dry_run or not chosen.yes:
            await self._tell_plan()
            return _end_of_plan(chosen)
        if phase in {None, "copying"}:
            layout = await self._enter(layout, "copying")
            await asyncio.sleep(_NOTICED_SECONDS)
            await self._copy()
            layout = await self._enter(layout, "deleting")
        if layout is not None and layout.phase == "deleting":
            await delete_old(self._redis, self._old.prefix, self._still_alone, Progress("old keys deleted"))
            layout = await self._enter(layout, "placing")
        await place_staged(self._redis, self._old.prefix, self._still_alone, Progress("new keys placed"))
        await self._still_alone()
        await change_layout(self._redis, self._old, layout, Layout(self._new.partitions))
        new = self._new.partitions
        sys.stdout.write(f"the deployment has {new} partitions: set STREAM_PARTITIONS={new} everywhere, and start\n")
        return DONE

    async def _enter(self, layout: Layout | None, phase: Phase) -> Layout:
        await self._still_alone()
        entered = Layout(self._old.partitions, self._new.partitions, phase)
        if layout != entered:
            await change_layout(self._redis, self._old, layout, entered)
        return entered

    async def _copy(self) -> None:
        """Make everything new under staged names, and check it.

        Raises:
            RefusedError: something is not as it was; nothing of the old was changed.
        """
        await drop_staged(self._redis, self._old.prefix, self._still_alone)
        before = await offsets(self._redis, self._old)
        log = LogMover(self._redis, self._old, self._new, Progress("events copied"))
        await log.copy()
        rest = RestMover(self._redis, self._old, self._new, log.ledger, Progress("views copied"))
        await rest.copy()
        await check_staged(self._redis, self._old, self._new, Progress("views checked"))
        if await offsets(self._redis, self._old) != before:
            raise RefusedError("events came in during the copy: stop every ingest and worker, then run this again")
        for group in log.ledger.foreign_groups:
            sys.stderr.write(f"consumer group {group} is not moved: make it again where it is needed\n")
        for topic in rest.unreadable:
            sys.stderr.write(f"the view of {topic.path} cannot be read and was copied as it is\n")
        sys.stdout.write(f"copied {log.ledger.events} events, {rest.views} views, {rest.letters} dead letters\n")

    async def _tell_plan(self) -> None:
        events = sum([await self._redis.xlen(source.key) for source in self._old.sources()])
        sys.stdout.write(
            f"would move {events} events and all views from {self._old.partitions} to {self._new.partitions} "
            f"partitions; until that is done Redis needs room for both\n"
        )


_NOTICED_SECONDS: Final = 2 * TRUSTED_SECONDS
"""After these every process that still appends has seen that the layout changes, and refuses to."""

REPARTITION: Final = Command(
    "repartition",
    "change the number of partitions of a deployment that stands still",
    _add_arguments,
    _repartition,
    guarded=False,
)
