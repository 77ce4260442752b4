"""The archiver as a process: ``python -m services.archiver``."""

import asyncio
import signal
import sys
from contextlib import AsyncExitStack

import uvloop
from redis.exceptions import RedisError

from core.log.archive.parquet import Parquet
from core.log.archive.spooled import Spooled
from core.log.keys import Keys
from core.log.layout import LayoutError
from core.runtime.exits import UNFIT
from core.runtime.logs import configure_logging, get_logger
from core.runtime.memory import EvictingRedisError
from core.runtime.metrics import PortBusyError, metrics_server
from core.runtime.redis import command_client, safe_address
from services.archiver.archiver import Archiver
from services.archiver.compaction import Compactor
from services.archiver.moving import Mover
from services.archiver.settings import ArchiverSettings
from services.archiver.writing import Writer


def build(settings: ArchiverSettings, stack: AsyncExitStack) -> Archiver:
    """An archiver with its own connections, which close with the stack."""
    redis = command_client(settings.redis_address())
    stack.push_async_callback(redis.aclose)
    spool = settings.open_spool()
    parquet = Parquet(spool.folder / "sorting")
    stack.callback(parquet.close)
    keys = Keys(settings.key_prefix, settings.stream_partitions)
    spooled = Spooled(redis, keys)
    writer = Writer(redis, keys, spool, spooled, parquet, seconds=settings.archive_seconds)
    store = settings.open_store()
    mover, compactor = Mover(spool, spooled, store), Compactor(store, parquet, spool.folder / "compacting")
    return Archiver(redis, keys, writer, mover, compactor, settings)


async def _serve(settings: ArchiverSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        archiver = build(settings, stack)
        stack.enter_context(
            metrics_server(
                settings.metrics_host,
                settings.metrics_port,
                ready=lambda: None if archiver.ready else "has not looked at the log yet",
            )
        )
        async with archiver.running():
            get_logger().info("stream archiver started", redis=safe_address(settings.redis_address()))
            await stop.wait()


def main() -> int:
    """Run until told to stop; 2 when a setting does not fit, 1 when Redis cannot be reached or a port is taken."""
    settings = ArchiverSettings()
    configure_logging("archiver", settings)
    try:
        uvloop.run(_serve(settings))
    except (EvictingRedisError, LayoutError, ValueError) as error:
        get_logger().error("stream archiver stops", reason=str(error))
        return UNFIT
    except (RedisError, PortBusyError) as error:
        get_logger().error("stream archiver stops", reason=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
