"""One fault test: the whole system as processes under load, watched, broken, left to heal, then checked."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.append import Appender
from core.log.keys import GROUP, Keys, partition_of
from core.runtime.redis import blocking_client, command_client
from core.views.folds import render
from core.views.store import ViewStore
from core.views.stored import Snapshot
from pipai_contracts.ids import Topic
from tests.conftest import wait_until
from tests.faults.checker import find_anomalies, lost_by_redis
from tests.faults.crowd import Crowd
from tests.faults.history import Fault, History, Invoked, Kept, Rest
from tests.faults.observer import BLOCK_MS, Observer
from tests.faults.recovery import recoveries
from tests.faults.scale import Scale
from tests.faults.services import Service, started
from tests.faults.timeline import topics_of
from tests.faults.workload import Workload
from tests.projector.fresh_fold import is_projected

QUIET_SECONDS = 40
RECOVERY_SECONDS = 20.0
"""Almost three times the slowest of the full rounds in bench/RESULTS.md: 7.2 s."""

SERVICES = ("services.ingest", "services.projector", "services.api")
_DIRECTLY: Mapping[str, str] = {}

WATCHED = (Topic("default", "user", "user 1"), Topic("default", "workflow", "workflow 1"))


@dataclass
class Round:
    """The running system of one test: break it inside `fault`, and `finish` looks at what became of it."""

    history: History
    keys: Keys
    redis: Redis
    projectors: list[Service]
    ingest: Service
    apis: list[Service]
    workload: Workload
    observer: Observer
    crowd: Crowd
    random: Random
    scale: Scale
    folder: Path
    _new_projector: Callable[[], Service]
    _appender: Appender
    loads: AsyncExitStack = field(default_factory=AsyncExitStack)
    _added: list[Service] = field(default_factory=list[Service])

    @asynccontextmanager
    async def fault(self, name: str, *, loses: bool = False, hides: bool = False) -> AsyncGenerator[None]:
        """What happens inside breaks something; at its end it is whole again, or about to heal by itself."""
        self.history.add(Fault(name=name, phase="begin", loses=loses, hides=hides))
        yield
        self.history.add(Fault(name=name, phase="end", loses=loses, hides=hides))

    async def load(self, seconds: float) -> None:
        """Let the producers go on for this long."""
        await asyncio.sleep(seconds)

    async def load_with_large_events(self, rate: int) -> None:
        """Have other producers publish so many large events a second beside the usual ones, until `finish`."""
        seed = self.random.randrange(1_000_000)
        large = Workload(self.history, self.ingest.port, self._appender, rate=rate, seed=seed, large=True)
        await self.loads.enter_async_context(large.publishing())

    async def kill_projector(self) -> None:
        """Kill -9 any of the projectors while another one is ready; a new one is started at once."""
        victim = self.random.choice(self.projectors)
        self.projectors.remove(victim)
        await self.random.choice(self.projectors).ready()
        async with self.fault("kill -9 of a projector"):
            await victim.kill()
        await self.add_projector()

    async def add_projector(self) -> Service:
        """Another projector; it is not ready yet."""
        service = self._new_projector()
        self._added.append(service)
        await service.start()
        self.projectors.append(service)
        return service

    async def end_added(self) -> None:
        """Kill the projectors that were added and are still there."""
        await asyncio.gather(*(service.kill() for service in self._added))

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
        invoked = [one for one in happenings if isinstance(one, Invoked)]
        events, seconds = len({one.event_id for one in invoked}), invoked[-1].at - invoked[0].at
        times = [one.seconds for one in recoveries(happenings, self.keys) if one.seconds is not None]
        lost = len(lost_by_redis(happenings, self.keys))
        return [
            f"{events:,} events in {len(invoked):,} publishes, {len(invoked) / seconds:,.0f} a second",
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
            viewers = self.crowd.viewers
            ends = {topic: str((await self._snapshot(topic)).cursor) for topic in {one.topic for one in viewers}}
        except RedisError:
            return False
        return all(ends[one.topic] == (one.cursor or "0") for one in viewers)

    async def _write_down_the_end(self) -> None:
        topics = {
            topic
            for one in self.history.happenings
            if isinstance(one, Invoked) and one.envelope is not None
            for topic in topics_of(one.envelope)
        }
        for topic in sorted(topics):
            snapshot = await self._snapshot(topic)
            if snapshot.state is not None:
                view = render(snapshot.state).model_dump_json()
                self.history.add(Rest(topic=topic.path, cursor=str(snapshot.cursor), view=view))
        for source in self.keys.sources():
            rows = cast("list[tuple[bytes, object]]", await self.redis.xrange(source.key))
            stream_ids = tuple(stream_id.decode() for stream_id, _ in rows)
            self.history.add(Kept(stream=source.key, stream_ids=stream_ids))

    async def _snapshot(self, topic: Topic) -> Snapshot:
        store = ViewStore(self.redis, self.keys, feed_length=1, ttl=60)
        return await store.snapshot(topic, partition_of(topic, self.keys.partitions))


@asynccontextmanager
async def round_of(
    folder: Path,
    scale: Scale,
    seed: int,
    direct: str,
    through: Mapping[str, str] = _DIRECTLY,
    /,
    *,
    projector: str = "services.projector",
    **settings: str,
) -> AsyncGenerator[Round]:
    """The system on the Redis at ``direct``; ``through``: services that reach it by another address than we do."""
    values = {
        "STREAM_BLOCK_TIME": "500",
        "STREAM_MAX_ENTRIES": "100000",
        "STORAGE_URL": (folder / "storage").as_uri(),
        "DEBUG": "false",
        **settings,
    }
    keys = Keys(partitions=int(settings.get("STREAM_PARTITIONS", "1")))
    async with AsyncExitStack() as stack:
        history = stack.enter_context(History(folder / "history.jsonl"))
        redis = command_client(direct)
        stack.push_async_callback(redis.aclose)
        blocking = blocking_client(direct, BLOCK_MS)
        stack.push_async_callback(blocking.aclose)

        def service(module: str) -> Service:
            return Service(module, folder, {**values, "REDIS_URL": through.get(module, direct)})

        ingest = service("services.ingest")
        served = [service("services.api") for _ in range(scale.apis)]
        make_projector = partial(service, projector)
        projectors = [make_projector() for _ in range(2)]
        await stack.enter_async_context(started(ingest, *served, *projectors))
        observer = Observer(blocking, keys, history)
        await stack.enter_async_context(observer.observing())
        crowd = Crowd([one.port for one in served], history)
        await stack.enter_async_context(crowd.running())
        for topic in WATCHED:
            await crowd.come(topic, scale.viewers)
        appender = Appender(redis, keys, idempotency_window=600, owner_ttl=600)
        workload = Workload(history, ingest.port, appender, rate=scale.rate, seed=seed)
        made = Round(
            history, keys, redis, projectors, ingest, served, workload, observer, crowd, Random(seed), scale, folder,
            make_projector, appender,
        )  # fmt: skip
        stack.push_async_callback(made.end_added)
        await made.loads.enter_async_context(workload.publishing())
        stack.push_async_callback(made.loads.aclose)
        yield made
