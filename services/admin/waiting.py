"""``pipai-admin dead waiting`` and ``dead park``: events for which their source waits, and ending the wait.

An event of a newer build than any that will ever come (a hand or a broken producer wrote its ``v``) would hold up its
source for ever. Parking it lets the source go on without it.
"""

import sys
from argparse import Namespace
from collections.abc import AsyncGenerator
from typing import Final, NamedTuple

from core.log.dead import DeadLetters
from core.log.entry import Entry, decode
from core.log.errors import UndecodableEntryError
from core.log.keys import Source
from core.log.letters import Letters, place_of
from core.log.reader import LogReader
from core.views.checkpoints import Checkpoints
from pipai_contracts.record import StreamId
from pipai_contracts.upcast import NewerVersionError
from services.admin.command import DONE, Deployment, RefusedError
from services.admin.progress import Progress
from services.admin.words import counted, plain

_LISTED: Final = 100


class _Waiting(NamedTuple):
    """An event beyond its source's checkpoint that this build is too old for; ``why`` names both versions."""

    source: Source
    entry: Entry
    why: NewerVersionError

    @property
    def place(self) -> str:
        """Where it stands, as `dead park` takes it."""
        return place_of(self.source.name, self.entry.stream_id)


async def list_waiting(deployment: Deployment, _: Namespace) -> int:
    """Show the first events that wait, each source's in its order."""
    shown = 0
    async for waiting in _all_waiting(deployment):
        if shown == _LISTED:
            sys.stderr.write(f"these are the first {_LISTED}\n")
            break
        topic = plain(waiting.entry.fields.get(b"topic", b"-").decode(errors="backslashreplace"))
        sys.stdout.write(f"{waiting.place}  {topic}  {plain(str(waiting.why))}\n")
        shown += 1
    return DONE


async def park_waiting(deployment: Deployment, chosen: Namespace) -> int:
    """Park events that wait: those that are named, or with ``--all --yes`` every one.

    Raises:
        RefusedError: it is not clear which are meant, or one of them does not wait; nothing was parked.
    """
    if bool(chosen.places) == chosen.all:
        raise RefusedError("say which events: their places, as pipai-admin dead waiting shows them, or --all")
    if chosen.all and not chosen.yes:
        count = sum([1 async for _ in _all_waiting(deployment)])
        raise RefusedError(f"{counted(count, 'event')} would be parked; add --yes to do it")
    dead = DeadLetters(deployment.redis, deployment.keys)
    parked, progress = 0, Progress("events parked")
    async for waiting in _all_waiting(deployment) if chosen.all else _named(deployment, chosen.places):
        parked += (await dead.park(waiting.source, waiting.entry, waiting.why)).now
        progress.step()
    sys.stdout.write(f"{parked} parked; what came after them is projected within seconds\n")
    return DONE


async def _all_waiting(deployment: Deployment) -> AsyncGenerator[_Waiting]:
    log = LogReader(deployment.redis, deployment.keys)
    checkpoints = Checkpoints(deployment.redis, deployment.keys)
    for source in deployment.keys.sources():
        reached = (await checkpoints.load(source)).stream_id
        async for _, entry, parked in log.read(source, after=reached):
            why = None if parked else _why_waiting(source, entry)
            if why is not None:
                yield _Waiting(source, entry, why)


async def _named(deployment: Deployment, places: list[str]) -> AsyncGenerator[_Waiting]:
    """The events at these places, once all of them are known to wait."""
    found = [await _at(deployment, place) for place in dict.fromkeys(places)]
    for waiting in found:
        yield waiting


async def _at(deployment: Deployment, place: str) -> _Waiting:
    try:
        source, stream_id = Letters(deployment.redis, deployment.keys).parse_place(place)
    except ValueError as error:
        raise RefusedError(f"{place}: {error}") from error
    (entry,) = await LogReader(deployment.redis, deployment.keys).find([(source, stream_id)])
    if entry is None:
        raise RefusedError(f"{place}: the log has no such event")
    why = _why_waiting(source, entry)
    if why is None:
        raise RefusedError(f"{place} waits for nobody: this build can read it, or parks it by itself")
    await _refuse_projected(deployment, source, stream_id)
    return _Waiting(source, entry, why)


async def _refuse_projected(deployment: Deployment, source: Source, stream_id: StreamId) -> None:
    reached = (await Checkpoints(deployment.redis, deployment.keys).load(source)).stream_id
    if stream_id <= reached:
        place = place_of(source.name, stream_id)
        raise RefusedError(f"{place} does not wait: a newer build projected it, or it was parked")


def _why_waiting(source: Source, entry: Entry) -> NewerVersionError | None:
    try:
        decode(source, entry)
    except NewerVersionError as error:
        return error
    except UndecodableEntryError:
        return None
    return None
