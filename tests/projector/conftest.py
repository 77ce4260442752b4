"""A deployment without its web services: a log to append to, and projectors that come and go."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import randint
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from core.log.append import Appender
from core.log.dead import DeadLetters
from core.log.entry import Entry
from core.log.history import History
from core.log.keys import GROUP, Keys, Source
from core.log.read import entries_of
from core.log.reader import LogReader
from core.runtime.redis import command_client
from core.views.checkpoints import Checkpoints
from core.views.errors import ViewsWentBackError
from core.views.folds import render
from core.views.refold import Refolder
from core.views.repair import Repair
from core.views.setback import Setbacks
from core.views.store import ViewStore
from pipai_contracts.ids import Topic
from pipai_contracts.publish import Published
from pipai_contracts.views import AnyView
from services.projector.follower import Follower
from services.projector.lease import Leases
from services.projector.main import build
from services.projector.partition import create_group
from services.projector.pending import consumer_name
from services.projector.projection import Projection
from services.projector.projector import Projector
from services.projector.retention import Retention
from services.projector.settings import ProjectorSettings
from services.projector.survey import Survey
from services.projector.turns import Turns
from services.standalone.embedded import Server, redis_server
from tests.conftest import wait_until
from tests.core.telling import Told
from tests.projector.fresh_fold import assert_views_are_a_fresh_fold, is_projected


class HandedFollower(Follower):
    """A follower that is handed its batches by a test."""

    async def take(self, entries: Sequence[Entry]) -> None:
        """As `begin`, and wait until the entries are in their views and acknowledged.

        Raises:
            redis.exceptions.RedisError, core.views.errors.CommitError: nothing is acknowledged.
        """
        try:
            await self.begin(entries)
            await self._turns.settled()
        except ViewsWentBackError:
            await self.begin(entries)
            await self._turns.settled()


@dataclass
class Deployment:
    """Everything that shares one Redis and one key prefix."""

    settings: ProjectorSettings
    redis: Redis
    keys: Keys
    appender: Appender
    store: ViewStore
    checkpoints: Checkpoints
    told: int = 0

    async def publish(self, *told: Told) -> list[Published]:
        """Append the events, each with an id of its own."""
        envelopes = [one.envelope(f"e{self.told + number}") for number, one in enumerate(told)]
        self.told += len(told)
        return await self.appender.append(envelopes)

    async def delete_changes(self, newest: int) -> None:
        """Delete so many of the newest entries of each change feed, as another hand may."""
        for partition in range(self.keys.partitions):
            key = self.keys.changes(partition)
            entries = cast("list[Any]", await self.redis.xrevrange(key, count=newest))
            if entries:
                await self.redis.xdel(key, *(entry_id for entry_id, _ in entries))

    @asynccontextmanager
    async def projecting(self, leases: type[Leases] = Leases, **settings: Any) -> AsyncGenerator[Projector]:
        """A projector, as its process composes it."""
        async with AsyncExitStack() as stack:
            projector = build(self.settings.model_copy(update=settings), stack, leases)
            async with projector.running():
                yield projector

    async def settled(self, timeout: float = 15) -> int:  # noqa: ASYNC109 - handed on to wait_until
        """Wait until every event is projected, check every view against the log, and return how many there are."""
        await wait_until(lambda: is_projected(self.redis, self.keys), timeout, "not everything was projected")
        return await assert_views_are_a_fresh_fold(self.redis, self.keys)

    async def settled_without(self, *parked: Published) -> None:
        """As `settled`, for a log of one partition with progress that could not be folded: it is in no view."""
        await wait_until(lambda: is_projected(self.redis, self.keys), message="not everything was projected")
        await assert_views_are_a_fresh_fold(
            self.redis, self.keys, without={(self.source().name, one.stream_id) for one in parked}
        )

    async def view(self, kind: str, resource_id: str) -> AnyView:
        """The view of a topic as it is stored now."""
        topic = Topic.parse(f"default:{kind}:{resource_id}")
        return render((await self.store.load([topic]))[topic].state)

    def source(self, name: str = "workflow:progress", partition: int = 0) -> Source:
        return self.keys.source(name, partition)

    async def deliver(self, source: Source | None = None, count: int = 100) -> list[Entry]:
        """What the group gives its consumer next; the projector never sees it."""
        at = source or self.source()
        reply = await self.redis.xreadgroup(GROUP, consumer_name(at), {at.key: ">"}, count=count)
        rows = cast("list[Any]", reply)
        return entries_of(rows[0][1]) if rows else []

    async def pending(self, source: Source | None = None) -> int:
        """How many entries the group gave out that nobody acknowledged."""
        summary = await self.redis.xpending((source or self.source()).key, GROUP)
        return int(summary["pending"])

    async def remember(self, *names: str) -> dict[str, bytes]:
        """These keys as they are now, for `go_back`."""
        dumps = {name: await self.redis.dump(name) for name in names}
        return {name: dump for name, dump in dumps.items() if dump is not None}

    async def go_back(self, remembered: dict[str, bytes]) -> None:
        """Make the keys what they were: what a failover does that lost the latest writes."""
        for name, dump in remembered.items():
            milliseconds = 0 if self.keys.is_permanent(name) else 600_000
            await self.redis.restore(name, milliseconds, dump, replace=True)

    async def follower(self, source: Source | None = None) -> HandedFollower:
        """A follower as a projector makes it, to hand batches to; its group exists."""
        [follower] = await self.followers(source or self.source())
        return follower

    async def followers(self, *sources: Source) -> list[HandedFollower]:
        """The followers of one projector, which share its memory; their groups exist."""
        history = History(LogReader(self.redis, self.keys), self.keys, None)
        refolder = Refolder(self.redis, self.keys, history, feed_length=self.store.feed_length, ttl=self.store.ttl)
        repair = Repair(self.redis, self.keys, self.store, refolder)
        projection = Projection(self.keys, self.store, DeadLetters(self.redis, self.keys), repair)
        survey = Survey(self.checkpoints)
        setbacks = Setbacks(self.redis, self.keys, self.store, view_ttl=self.settings.view_ttl)
        retention, turns = Retention(self.redis, self.keys, self.settings), Turns()
        for source in sources:
            await create_group(self.redis, source)
        return [
            HandedFollower(
                self.redis,
                self.keys,
                source,
                projection=projection,
                checkpoints=self.checkpoints,
                setbacks=setbacks,
                survey=survey,
                history=history,
                retention=retention,
                batch=self.settings.projector_batch,
                turns=turns,
            )
            for source in sources
        ]

    async def letters(self, source: Source | None = None) -> Sequence[dict[bytes, bytes]]:
        """The dead letters of a source."""
        rows = cast("list[Any]", await self.redis.xrange(self.keys.dead(source or self.source())))
        return [fields for _, fields in rows]

    async def raised(self) -> list[int]:
        """How often the generation of each view partition was raised, as its change feed tells."""
        feeds = [await self.redis.xrange(self.keys.changes(number)) for number in range(self.keys.partitions)]
        return [sum(b"generation" in fields for _, fields in cast("list[Any]", feed)) for feed in feeds]

    async def generations(self) -> list[int]:
        """The generation of each view partition."""
        return [await self.store.generation(partition) for partition in range(self.keys.partitions)]


def counted(metric: str, source: str = "workflow:progress") -> float:
    """What a metric of this process counts for a source."""
    return REGISTRY.get_sample_value(metric, {"source": source}) or 0


@asynccontextmanager
async def deployed(redis_url: str, key_prefix: str, partitions: int = 1) -> AsyncGenerator[Deployment]:
    """A deployment on a Redis."""
    settings = ProjectorSettings.model_validate(
        {
            "redis_url": redis_url,
            "key_prefix": key_prefix,
            "stream_partitions": partitions,
            "stream_block_time": 100,
            "stream_max_entries": 5000,
            "projector_batch": 20,
            "view_ttl": 600,
            "lease_seconds": 1,
        }
    )
    redis, keys = command_client(redis_url), Keys(key_prefix, partitions)
    try:
        yield Deployment(
            settings,
            redis,
            keys,
            Appender(redis, keys, idempotency_window=600, owner_ttl=600),
            ViewStore(redis, keys, feed_length=settings.stream_max_entries, ttl=settings.view_ttl),
            Checkpoints(redis, keys),
        )
    finally:
        await redis.aclose()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Server]:
    """A Redis that a test may break.

    Its port is below those the system gives to clients: one of them could take it while Redis is dead.
    """
    with redis_server(tmp_path / "redis", randint(20_000, 30_000)) as server:
        yield server


@pytest.fixture(autouse=True)
def quick_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let projectors look after what the group does not deliver without waiting for seconds."""
    monkeypatch.setattr("services.projector.partition._LOOK_EVERY", 0.2)
    monkeypatch.setattr("services.projector.survey._FRESH", 0.15)


@pytest.fixture
async def deployment(redis_url: str, key_prefix: str) -> AsyncIterator[Deployment]:
    async with deployed(redis_url, key_prefix) as deployment:
        yield deployment


@pytest.fixture(params=[1, 4], ids=["1 partition", "4 partitions"])
async def any_deployment(redis_url: str, key_prefix: str, request: pytest.FixtureRequest) -> AsyncIterator[Deployment]:
    """With one partition, and with four."""
    async with deployed(redis_url, key_prefix, request.param) as deployment:
        yield deployment
