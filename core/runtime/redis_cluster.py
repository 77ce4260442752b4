"""A client of a Redis Cluster that waits between its attempts."""

import asyncio
from typing import Any, Final, cast

from redis._parsers import AsyncCommandsParser
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.exceptions import ConnectionError, RedisClusterException, SlotNotCoveredError  # noqa: A004

from core.runtime.redis_packing import PackingConnection

_READS_OF_STREAMS: Final = frozenset({"XREAD", "XREADGROUP"})

_LEARN_EVERY: Final = 0.25
"""Seconds between two looks at who has which slots. All 16,384 are gone through each time; without this pause every
read that failed had it done again, which took a fifth of a core while a shard with 16 partitions was away."""


class _CommandsAskedOnce(AsyncCommandsParser):
    """What commands there are, asked of one node once.

    redis-py asks again with every look at who has which slots. The answer is long, and reading it took a quarter of a
    core while a master was away.
    """

    async def initialize(self, node: ClusterNode | None = None) -> None:
        if self.commands and node is not None:
            self.node = node
        else:
            await super().initialize(node)


class PatientCluster(RedisCluster):
    """redis-py's client of a Cluster, mended where a failover would hurt.

    It has pauses between attempts; its errors are the ones other clients raise; and where a stream stands it works
    out by itself, while redis-py asks a node for each read: a dead one would be asked for ever.
    """

    def __init__(self, *, patience: Retry, **options: Any) -> None:
        super().__init__(**options)
        self._patience = patience
        self._lesson: asyncio.Future[str | None] | None = None
        self._learned_at = float("-inf")
        self.commands_parser = _CommandsAskedOnce()
        if not options.get("ssl"):
            # What nodes are found from now on connect with; the constructor takes no class.
            self.connection_kwargs["connection_class"] = PackingConnection

    async def initialize(self, *args: Any, **options: Any) -> "PatientCluster":
        """Learn which node has which slots, once for everybody who has to know at the same time.

        Raises:
            redis.exceptions.ConnectionError: no node answers, which redis-py says with an error of another family.
        """
        while self._initialize:
            if self._lesson is None:
                await self._learn(*args, **options)
            elif (failure := await asyncio.shield(self._lesson)) is not None:
                raise ConnectionError(failure)
        return self

    async def _learn(self, *args: Any, **options: Any) -> None:
        loop = asyncio.get_running_loop()
        self._lesson = lesson = loop.create_future()
        failure = None
        try:
            await asyncio.sleep(max(self._learned_at + _LEARN_EVERY - loop.time(), 0))
            await super().initialize(*args, **options)
        except RedisClusterException as error:
            failure = str(error)
            raise ConnectionError(failure) from error
        finally:
            self._learned_at = loop.time()
            self._lesson = None
            lesson.set_result(failure)  # none also when this one was cancelled: the next who waits learns instead

    async def aclose(self) -> None:
        """Close all connections nobody uses just now, also those of a client that has to learn the slots again.

        redis-py leaves the latter open. It calls this itself, in the middle of commands that found the Cluster down:
        connections others read from are spared, else one lost shard would cut the reads of all.
        """
        await super().aclose()
        known = self.nodes_manager
        for node in (*known.nodes_cache.values(), *known.startup_nodes.values()):
            await node.disconnect_free_connections()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command to the node that has its key; to a node named by ``target_nodes`` only once.

        Raises:
            redis.exceptions.RedisError: after the last attempt.
        """
        if "target_nodes" in options:
            return await self._once(*args, **options)
        return await self._patience.call_with_retry(lambda: self._once(*args, **options), _go_on)

    async def _once(self, *args: Any, **options: Any) -> Any:
        await self.initialize()
        return await cast("Any", super()).execute_command(*args, **options)

    async def _determine_nodes(self, *args: Any, **options: Any) -> list[ClusterNode]:
        try:
            return await cast("Any", super())._determine_nodes(*args, **options)  # noqa: SLF001 - it is our own
        except SlotNotCoveredError as error:
            self._initialize = True  # else the slot would stay without a node when it has one again
            raise ConnectionError(str(error)) from error

    async def _determine_slot(self, command: str, *args: Any) -> int:
        if command in _READS_OF_STREAMS:
            return self.keyslot(args[args.index(b"STREAMS") + 1])
        return await cast("Any", super())._determine_slot(command, *args)  # noqa: SLF001 - it is our own


async def _go_on(_: Exception) -> None:
    """Nothing to clean up between attempts: the client drops broken connections itself."""
