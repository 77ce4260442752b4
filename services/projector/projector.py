"""A projector: follows the partitions it holds a lease of, and hands them over when others come."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from faststream.redis import RedisBroker
from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.dead import DeadLetters
from core.log.history import History
from core.log.keys import Keys
from core.log.layout import LayoutError, check_layout
from core.runtime.logs import get_logger
from core.runtime.memory import refuse_eviction
from core.runtime.tasks import running
from core.views.checkpoints import Checkpoints
from core.views.failover import Failover, Regression
from core.views.refold import Refolder
from core.views.repair import Repair
from core.views.setback import Setbacks
from core.views.store import ViewStore
from services.projector import metrics
from services.projector.follower import Follower
from services.projector.lease import Leases, Share
from services.projector.partition import Partition
from services.projector.projection import Projection
from services.projector.retention import Retention
from services.projector.returning import Returning
from services.projector.settings import ProjectorSettings
from services.projector.survey import Survey
from services.projector.turns import Turns

_LEAVE_WITHIN: Final = 1.0
"""Seconds Redis gets to hear that a projector leaves, or leaves a partition; the others notice later without."""

log = get_logger()


@dataclass(eq=False)
class _Holding:
    """A partition that is followed. ``release``: its lease is given back when it was left."""

    partition: Partition
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    release: bool = False


class Projector:
    """Projects its share of a deployment's partitions, for as long as its `running` block lasts."""

    def __init__(
        self, settings: ProjectorSettings, redis: Redis, broker: RedisBroker, history: History, leases: Leases
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._broker = broker
        self._history = history
        self._leases = leases
        self._keys = Keys(settings.key_prefix, settings.stream_partitions)
        store = ViewStore(redis, self._keys, feed_length=settings.stream_max_entries, ttl=settings.view_ttl)
        self._failover = Failover(redis, self._keys, store)
        refolder = Refolder(redis, self._keys, history, feed_length=store.feed_length, ttl=store.ttl)
        self._returning = Returning(history, refolder, view_ttl=settings.view_ttl)
        repair = Repair(redis, self._keys, store, refolder)
        dead = DeadLetters(redis, self._keys)
        self._projection = Projection(self._keys, store, dead, repair, self._returning.note)
        self._checkpoints = Checkpoints(redis, self._keys)
        self._setbacks = Setbacks(redis, self._keys, store, view_ttl=settings.view_ttl)
        self._survey = Survey(self._checkpoints)
        self._retention = Retention(redis, self._keys, settings)
        self._turns = Turns()
        self._holdings: dict[int, _Holding] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._sharing = False
        self._agrees = True

    @property
    def ready(self) -> bool:
        """Whether all it holds is followed. One that stands by is ready too: others do the work.

        One with another number of partitions than the deployment's is not.
        """
        return (
            self._sharing
            and self._agrees
            and all(holding.partition.caught_up for holding in list(self._holdings.values()))
        )

    @property
    def held(self) -> frozenset[int]:
        """The partitions it follows and means to keep."""
        return frozenset(number for number, holding in self._holdings.items() if not holding.leave.is_set())

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Take part in sharing the partitions, and follow those that fall to this projector.

        Raises:
            redis.exceptions.RedisError: Redis cannot be reached at the start.
            LayoutError: the deployment has another number of partitions.
        """
        await refuse_eviction(self._redis)
        await check_layout(self._redis, self._keys)
        metrics.PARTITIONS.set(self._keys.partitions)
        await self._broker.start()
        try:
            await self._ask()
            log.info("projector shares the partitions", projector=self._leases.projector_id, held=sorted(self.held))
            async with running(self._keep_asking(), self._returning.keep_looking()):
                self._sharing = True
                yield
        finally:
            self._sharing = False
            await self._leave()
            await self._broker.stop()

    async def _keep_asking(self) -> None:
        """Ask for a share again and again. While Redis is away everything that is followed stays followed."""
        away = False
        while True:
            await asyncio.sleep(self._leases.ask_every)
            try:
                await self._ask()
                away = False
            except Exception as error:  # noqa: BLE001 - the others would take over what is followed here
                if not away:
                    log.warning("leases cannot be renewed", error=str(error))
                away = True

    async def _ask(self) -> None:
        """Renew and claim, then begin and end what has to be; that goes on while it is asked again."""
        if not self._agrees:
            await self._look_at_layout()
        share = await self._leases.share(sorted(self.held))
        if share.was_away:  # so may Redis have been, and one that began anew on the empty one has set the layout
            await self._look_at_layout()
        metrics.HELD.set(len(share.held))
        for number in share.held - self._holdings.keys():
            self._gain(number)
        for number in self.held:
            self._let_go(number, share)

    async def _look_at_layout(self) -> None:
        """Write the layout down again where it is gone; under another one leave everything, and ask for nothing more.

        Raises:
            LayoutError: it is another.
            redis.exceptions.RedisError: Redis did not answer.
        """
        self._agrees = False
        try:
            await check_layout(self._redis, self._keys)
        except LayoutError:
            self._leave_all()
            raise
        self._agrees = True

    def _gain(self, number: int) -> None:
        holding = _Holding(self._partition(number))
        self._holdings[number] = holding
        self._tasks[number] = asyncio.create_task(self._hold(number, holding))
        metrics.LEASE_CHANGES.labels("gained").inc()
        log.info("partition gained", partition=number)

    def _let_go(self, number: int, share: Share) -> None:
        """Leave a partition that another took, or that should go to one that has fewer."""
        holding = self._holdings[number]
        if number not in share.held:
            log.warning("partition lost to another projector", partition=number)
            metrics.LEASE_CHANGES.labels("lost").inc()
            holding.leave.set()
        elif number == share.give:
            holding.release = True
            holding.leave.set()

    async def _hold(self, number: int, holding: _Holding) -> None:
        """Follow a partition until it is left; then, and not before, another may claim it."""
        try:
            async with self._failover.watching(number, _count_regression), holding.partition.following():
                await holding.leave.wait()
            if holding.release:
                await self._hand_over(number)
        except Exception:
            log.exception("partition left because of a fault; it is soon gained again", partition=number)
        finally:
            del self._holdings[number], self._tasks[number]

    async def _hand_over(self, number: int) -> None:
        try:
            async with asyncio.timeout(_LEAVE_WITHIN):
                await self._leases.release(number)
        except (RedisError, TimeoutError) as error:
            log.warning("lease could not be given back", partition=number, error=str(error))
            return
        metrics.LEASE_CHANGES.labels("handed over").inc()
        log.info("partition handed over", partition=number)

    async def _leave(self) -> None:
        """Finish what is under way and give everything to the others."""
        try:
            async with asyncio.timeout(_LEAVE_WITHIN):
                await self._leases.leave()
        except (RedisError, TimeoutError) as error:
            log.warning("the other projectors will notice later that this one left", error=str(error))
        self._leave_all()
        if self._tasks:
            await asyncio.wait(self._tasks.values())
        metrics.HELD.set(0)

    def _leave_all(self) -> None:
        for holding in self._holdings.values():
            holding.release = True
            holding.leave.set()

    def _partition(self, number: int) -> Partition:
        settings = self._settings
        followers = [
            Follower(
                self._redis,
                self._keys,
                source,
                projection=self._projection,
                checkpoints=self._checkpoints,
                setbacks=self._setbacks,
                survey=self._survey,
                history=self._history,
                retention=self._retention,
                batch=settings.projector_batch,
                turns=self._turns,
            )
            for source in self._keys.sources()
            if source.partition == number
        ]
        return Partition(
            self._redis,
            self._broker,
            followers,
            self._turns,
            retention=self._retention,
            repair=self._projection.repair,
            batch=settings.projector_batch,
            block_ms=settings.stream_block_time,
        )


def _count_regression(regression: Regression) -> None:
    metrics.VIEWS_REGRESSED.labels(regression).inc()
