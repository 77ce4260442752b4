"""One fault test: the whole system as processes under load, watched, broken, left to heal, then checked."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.append import Appender
from core.log.keys import GROUP, Keys
from core.runtime.redis import command_client
from core.views.folds import render
from core.views.store import ViewStore
from pipai_contracts.ids import Topic
from tests.conftest import wait_until
from tests.faults.checker import find_anomalies, lost_by_redis
from tests.faults.history import Fault, History, Invoked, Kept, Rest
from tests.faults.observer import Observer
from tests.faults.recovery import recoveries
from tests.faults.scale import Scale
from tests.faults.services import Service, started
from tests.faults.timeline import topics_of
from tests.faults.viewer import Viewer
from tests.faults.workload import Workload
from tests.projector.fresh_fold import is_projected

QUIET_SECONDS = 40
RECOVERY_SECONDS = 20.0
"""Twice what the system promises."""

WATCHED = (Topic("default", "user", "user 1"), Topic("default", "workflow", "workflow 1"))


@dataclass
class Round:
    """The running system of one test. ``break_`` things inside ``fault``; `finish` heals, checks and reports."""

    history: History
    keys: Keys
    redis: Redis
    projectors: list[Service]
    ingest: Service
    api: Service
    workload: Workload
    observer: Observer
    viewers: list[Viewer]
    random: Random
    scale: Scale
    folder: Path
    _new_projector: Any
    loads: AsyncExitStack = field(default_factory=AsyncExitStack)

    @asynccontextmanager
    async def fault(self, name: str, *, loses: bool = False) -> AsyncGenerator[None]:
        """What happens inside breaks something; at its end it is whole again, or about to heal by itself."""
        self.history.add(Fault(name=name, phase="begin", loses=loses))
        yield
        self.history.add(Fault(name=name, phase="end", loses=loses))

    async def load(self, seconds: float) -> None:
        """Let the producers go on for this long."""
        await asyncio.sleep(seconds)

    async def add_projector(self) -> Service:
        """Another projector; it is not ready yet."""
        service: Service = self._new_projector()
        await service.start()
        self.projectors.append(service)
        return service

    async def finish(self) -> list[str]:
        """Stop the load, wait until all is quiet, write down how things are, and fail on any anomaly.

        Returns what was measured, in words.
        """
        await self.loads.aclose()
        await wait_until(self._is_quiet, QUIET_SECONDS, f"it did not become quiet; see {self.folder}")
        await self._write_down_the_end()
        happenings = self.history.happenings
        anomalies = find_anomalies(happenings, self.keys)
        assert not anomalies, f"{len(anomalies)} in {self.history.path}: {[*anomalies[:5]]}"
        slow = [one for one in recoveries(happenings, self.keys) if (one.seconds or 0) > RECOVERY_SECONDS]
        assert not slow, slow
        return self._figures()

    def _figures(self) -> list[str]:
        happenings = self.history.happenings
        events = len({(one.event_id) for one in happenings if isinstance(one, Invoked)})
        times = [one.seconds for one in recoveries(happenings, self.keys) if one.seconds is not None]
        lost = len(lost_by_redis(happenings, self.keys))
        return [
            f"{events:,} events, {self.workload.published:,} publishes",
            f"{len(times)} faults, slowest recovery {max(times, default=0):.2f} s",
            f"{lost} lost by Redis and told, no anomaly",
        ]

    async def _is_quiet(self) -> bool:
        try:
            if not await is_projected(self.redis, self.keys) or not await self.observer.has_all():
                return False
            for source in self.keys.sources():
                if (await self.redis.xpending(source.key, GROUP))["pending"]:
                    return False
            store = self._store()
            cursors = [str((await store.snapshot(one.topic, 0)).cursor) for one in self.viewers]
        except RedisError:
            return False
        return cursors == [one.cursor or "0" for one in self.viewers]

    async def _write_down_the_end(self) -> None:
        topics = {
            topic
            for one in self.history.happenings
            if isinstance(one, Invoked) and one.envelope is not None
            for topic in topics_of(one.envelope)
        }
        for topic in sorted(topics):
            snapshot = await self._store().snapshot(topic, 0)
            if snapshot.state is not None:
                view = render(snapshot.state).model_dump_json()
                self.history.add(Rest(topic=topic.path, cursor=str(snapshot.cursor), view=view))
        for source in self.keys.sources():
            rows = cast("list[tuple[bytes, object]]", await self.redis.xrange(source.key))
            stream_ids = tuple(stream_id.decode() for stream_id, _ in rows)
            self.history.add(Kept(stream=source.key, stream_ids=stream_ids))

    def _store(self) -> ViewStore:
        return ViewStore(self.redis, self.keys, feed_length=1, ttl=60)


@asynccontextmanager
async def round_of(
    folder: Path, scale: Scale, seed: int, direct: str, *, through: str | None = None, **settings: str
) -> AsyncGenerator[Round]:
    """The system on the Redis at ``direct``; its services reach it by way of ``through``, we do not."""
    values = {
        "REDIS_URL": through or direct,
        "STREAM_BLOCK_TIME": "500",
        "STREAM_MAX_ENTRIES": "100000",
        "STORAGE_URL": (folder / "storage").as_uri(),
        "DEBUG": "false",
        **settings,
    }
    keys = Keys()
    async with AsyncExitStack() as stack:
        history = stack.enter_context(History(folder / "history.jsonl"))
        redis = command_client(direct)
        stack.push_async_callback(redis.aclose)
        texts = Redis.from_url(direct, decode_responses=True, protocol=2, socket_timeout=5)
        stack.push_async_callback(texts.aclose)
        ingest, api = Service("ingest", folder, values), Service("api", folder, values)
        projectors = [Service("projector", folder, values) for _ in range(2)]
        await stack.enter_async_context(started(ingest, api, *projectors))
        observer = Observer(texts, keys, history)
        await stack.enter_async_context(observer.observing())
        viewers = [Viewer(topic.name, api.port, topic, history) for topic in WATCHED]
        for viewer in viewers:
            await stack.enter_async_context(viewer.watching())
        appender = Appender(redis, keys, idempotency_window=600, owner_ttl=600)
        workload = Workload(history, ingest.port, appender, rate=scale.rate, seed=seed)
        made = Round(
            history, keys, redis, projectors, ingest, api, workload, observer, viewers, Random(seed), scale, folder,
            lambda: Service("projector", folder, values),
        )  # fmt: skip
        await made.loads.enter_async_context(workload.publishing())
        try:
            yield made
        finally:
            await made.loads.aclose()
            await asyncio.gather(*(projector.kill() for projector in made.projectors[2:]))
