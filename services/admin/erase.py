"""``pipai-admin erase``: forget a user, in everything that the deployment keeps."""

import asyncio
import json
import random
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import asdict, dataclass
from shlex import quote
from typing import Final

from core.log.archive.archive import Archive
from core.log.archive.bases import Base
from core.log.archive.wanted import Wanted
from core.log.audit import AuditLog
from core.log.reader import LogReader
from core.log.removal import LogRemover
from core.log.tombstones import Tombstone, Tombstones
from core.runtime.redis import ask_holder
from core.runtime.settings import Settings
from core.runtime.storage import DOCUMENTS, Storage, StorageUrl, open_storage
from core.views.checkpoints import Checkpoints
from core.views.erased import topics_in
from core.views.folds import decode_state
from core.views.rebuild import differences
from core.views.removal import ViewRemover, owner_of
from core.views.replace import MovingViewError, Replacement, ViewReplacer
from core.views.store import ViewStore
from core.views.topic_folds import TopicFolds
from pipai_contracts.ids import DEFAULT_TENANT, Topic, check_id
from services.admin.alone import alone
from services.admin.archive import is_archived, require_own_archive
from services.admin.command import DONE, FOUND, Command, Deployment, RefusedError
from services.admin.progress import Progress
from services.admin.words import counted, plain

PATIENCE: Final = 120.0
"""Seconds in which projectors and archiver are to be through with what is there."""

_LOOK_SECONDS: Final = 0.2

_TRIES: Final = 100
"""Times a view is folded again because it was committed meanwhile."""


class DocumentSettings(Settings):
    """Where ingest keeps documents."""

    storage_url: StorageUrl = ""


@dataclass(slots=True)
class Report:
    """What was removed. ``done``: nothing of the user is left."""

    user: str
    done: bool = False
    topics: int = 0
    events_in_streams: int = 0
    events_in_archive: int = 0
    views: int = 0
    feed_entries: int = 0
    changes: int = 0
    dead_letters: int = 0
    uploads: int = 0


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER", help="the user's id")
    parser.add_argument("--tenant", default=DEFAULT_TENANT, help="whose user that is (default: %(default)s)")
    parser.add_argument("--confirm", metavar="WORDS", help="what a call without this says is to be typed here")
    parser.add_argument("--json", action="store_true", help="the report as JSON")


async def _erase(deployment: Deployment, chosen: Namespace) -> int:
    """Say what would go; with the right words, have it go."""
    try:
        user = Topic(chosen.tenant, "user", check_id(chosen.user))
    except ValueError as error:
        raise RefusedError(f"the user's {error}") from error
    await _require_archive(deployment)
    words = f"erase user {plain(user.id)}"
    if chosen.confirm is None:
        owned = await _owned(deployment, user)
        events = counted(sum(owned.values()), "event")
        sys.stdout.write(
            f"{events} of {counted(len(owned), 'topic')}; all events of these topics go, and what was made of them\n"
            f"nothing was removed; to do it, call this again with --confirm {quote(words)}\n"
        )
        return DONE
    if chosen.confirm != words:
        raise RefusedError(f"--confirm has to be {quote(words)}; nothing was removed")
    async with alone(deployment.redis, deployment.keys, "erase"):  # what is being rebuilt would be put back
        owned = await _owned(deployment, user)
        report = await Erasure(deployment, user).carry_out(frozenset(owned))
    _tell(report, as_json=chosen.json)
    return DONE if report.done else FOUND


async def _require_archive(deployment: Deployment) -> None:
    """Have all of the history at hand: the user's topics are found in it.

    Raises:
        RefusedError: the deployment has an archive, and it is not this one.
    """
    if deployment.archive is None and await is_archived(deployment):
        raise RefusedError("nothing was removed: the deployment has an archive, and ARCHIVE_URL does not say where")
    await require_own_archive(deployment)


async def _owned(deployment: Deployment, user: Topic) -> dict[str, int]:
    """The user's topics with how many of their events name the user.

    Of events that were given up views and bases tell: that of the user and those of the topics.
    """
    found = await LogRemover(deployment.redis, deployment.keys).owned(user.tenant, user.id)
    for name in await _view_remover(deployment).owned(user):
        found.setdefault(name, 0)
    archive = deployment.archive
    if archive is None:
        return found
    for name, count in (await archive.owned(user.tenant, user.id)).items():
        found[name] = max(count, found.get(name, 0))
    async for base in _bases(archive, user.tenant):
        names = topics_in(base) if base.topic == user else set[str]()
        if owner_of(decode_state(base.topic.kind, base.state)) == user.id:
            names.add(base.topic.name)
        for name in names:
            found.setdefault(name, 0)
    return found


async def _bases(archive: Archive, tenant: str) -> AsyncGenerator[Base]:
    async for page in archive.bases.read(await archive.bases.newest() or 0):
        for base in page:
            if base.topic.tenant == tenant:
                yield base


def _view_remover(deployment: Deployment) -> ViewRemover:
    redis, keys, settings = deployment.redis, deployment.keys, deployment.settings
    store = ViewStore(redis, keys, feed_length=settings.stream_max_entries, ttl=settings.view_ttl)
    return ViewRemover(redis, keys, store)


class Erasure:
    """One run. What was begun goes on with the next."""

    def __init__(self, deployment: Deployment, user: Topic) -> None:
        redis, keys, settings = deployment.redis, deployment.keys, deployment.settings
        self._deployment = deployment
        self._user = user
        self._tombstones = Tombstones(redis, keys)
        self._log = LogRemover(redis, keys)
        self._views = _view_remover(deployment)
        self._replacer = ViewReplacer(redis, keys, feed_length=settings.stream_max_entries, ttl=settings.view_ttl)
        self._report = Report(user.id)

    async def carry_out(self, owned: frozenset[str]) -> Report:
        """Set up the tombstone, then remove what it hides: where it is made again from first, the log last.

        Raises:
            RefusedError: the projectors do not come to the end of what there is.
        """
        report, deployment = self._report, self._deployment
        storage = _open_documents()
        audit = AuditLog(deployment.redis, deployment.keys)
        begun = await audit.write("erase", {"tenant": self._user.tenant, "user": self._user.id})
        tombstone = await self._set_up(owned)
        report.topics = len(tombstone.topics)
        await self._wait(lambda: self._is_projected(tombstone), "no projector is through with events of the user")
        await self._remove_views(tombstone)
        report.uploads = await _remove_uploads(storage, tombstone)
        if await self._is_out_of_archive(tombstone):
            removed = await self._log.remove(tombstone)
            report.events_in_streams, report.dead_letters = removed.events, removed.letters
            report.done = True
        await audit.write("erase", asdict(report), of=begun)
        return report

    async def _set_up(self, owned: frozenset[str]) -> Tombstone:
        """The tombstone, with the topics that came while it was set up."""
        redis, keys = self._deployment.redis, self._deployment.keys
        seconds, micros = await ask_holder(redis, keys.layout, "TIME")
        newest = [await LogReader(redis, keys).newest(source) for source in keys.sources()]  # a clock may have jumped
        until = max(int(seconds) * 1000 + int(micros) // 1000, *(one.milliseconds for one in newest))
        tombstone = await self._tombstones.add(await self._with_others(until, owned))
        later = frozenset(await self._log.owned(self._user.tenant, self._user.id))
        return await self._tombstones.add(await self._with_others(until, tombstone.topics | later))

    async def _with_others(self, until: int, topics: frozenset[str]) -> Tombstone:
        """The tombstone, with who has seen events of the topics as their own: once it is set up, they may be gone."""
        user = self._user
        tombstone = Tombstone(user.tenant, user.id, until, topics)
        archive, found = self._deployment.archive, await self._log.other_owners(tombstone)
        if archive is not None:
            found |= await archive.owners(user.tenant, {*topics, user.name})
            async for base in _bases(archive, user.tenant):
                if base.topic.kind == "user" and not topics.isdisjoint(topics_in(base)):
                    found.add(base.topic.id)
        return tombstone._replace(others=frozenset(found - {user.id}))

    async def _is_projected(self, tombstone: Tombstone) -> bool:
        sources = self._deployment.keys.sources()
        projected = await Checkpoints(self._deployment.redis, self._deployment.keys).load_all(sources)
        for source, view in projected.items():
            if await self._log.is_behind(source, view.lowest.stream_id, tombstone.until):
                return False
        return True

    async def _remove_views(self, tombstone: Tombstone) -> None:
        removed = await self._views.remove(sorted(tombstone.hidden_topics))
        self._report.views, self._report.feed_entries, self._report.changes = removed
        await self._views.remove(tombstone.made_anew)
        await self._fold_again(await self._log.later_topics(tombstone) | tombstone.made_anew, tombstone)

    async def _fold_again(self, topics: set[Topic], tombstone: Tombstone) -> None:
        """Have these views what is left of their events, as what came between the tombstone and their removal.

        Raises:
            RefusedError: too much comes.
        """
        if not topics:
            return
        redis, keys, archive = self._deployment.redis, self._deployment.keys, self._deployment.archive
        length = self._deployment.settings.stream_max_entries
        only = Wanted(tombstone.tenant, since=None if tombstone.others else tombstone.until)
        folds = TopicFolds(redis, keys, archive, topics.__contains__, feed_length=length, only=only)
        await folds.read_projected()
        for topic in sorted(topics):
            async with self._replacer.replacing(topic) as replacement:
                for attempt in range(_TRIES):
                    if await self._is_folded(folds, topic, replacement):
                        break
                    await asyncio.sleep(random.uniform(0, 0.01 * min(attempt + 1, 20)))  # noqa: S311 - jitter
                else:
                    raise RefusedError(f"{topic.path} was committed again and again; run this once more")

    async def _is_folded(self, folds: TopicFolds, topic: Topic, replacement: Replacement) -> bool:
        """Whether the view is the fold of what is left of its events, or was made it now."""
        try:
            live = await self._replacer.look(topic)
        except MovingViewError:
            return False
        await folds.read_up_to(live.reached)
        fresh = await folds.fold(topic, live.reached)
        if fresh.lacks is not None:
            return False
        return not differences(live, fresh) or await replacement.put(live, fresh)

    async def _is_out_of_archive(self, tombstone: Tombstone) -> bool:
        """Whether the archiver has removed what the archive had, or there is no archive."""
        if not await is_archived(self._deployment):
            return True
        try:
            await self._wait(lambda: self._tombstones.is_settled(tombstone), "no archiver has been through the archive")
        except RefusedError as error:
            sys.stderr.write(f"{error}\n")
            return False
        self._report.events_in_archive = await self._tombstones.removed(tombstone) or 0
        return True

    async def _wait(self, condition: Callable[[], Awaitable[bool]], without: str) -> None:
        progress, waited = Progress("seconds waited for projectors and archiver"), 0
        ends = asyncio.get_running_loop().time() + PATIENCE
        while not await condition():
            if asyncio.get_running_loop().time() > ends:
                raise RefusedError(f"{without}: they are hidden, not removed; run this again when one is at work")
            await asyncio.sleep(_LOOK_SECONDS)
            waited += 1
            progress.step(int(waited * _LOOK_SECONDS) - int((waited - 1) * _LOOK_SECONDS))


def _open_documents() -> Storage:
    try:
        return open_storage(DocumentSettings().storage_url)
    except ValueError as error:
        raise RefusedError(str(error)) from error


async def _remove_uploads(storage: Storage, tombstone: Tombstone) -> int:
    """Delete the documents among the topics."""
    removed = 0
    for kind, _, file_id in (name.partition(":") for name in tombstone.topics):
        key = f"{DOCUMENTS}/{file_id}"
        if kind == "file" and file_id.isalnum() and await storage.exists(key):
            await storage.delete(key)
            removed += 1
    return removed


def _tell(report: Report, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(f"{json.dumps(asdict(report))}\n")
        return
    for name, value in asdict(report).items():
        sys.stdout.write(f"{name.replace('_', ' ')}: {plain(str(value))}\n")


ERASE: Final = Command("erase", "forget a user: events, views, documents and all", _add_arguments, _erase)
"""The command."""
