"""The archiver as a process: ``python -m services.archiver``."""

import sys
from contextlib import AsyncExitStack
from functools import partial

import uvloop
from redis.exceptions import RedisError

from core.log.archive.archive import Archive
from core.log.archive.parquet import Parquet
from core.log.archive.spooled import Spooled
from core.log.keys import Keys
from core.log.layout import LayoutError
from core.runtime.background import work_until_stopped
from core.runtime.exits import UNFIT
from core.runtime.logs import configure_logging, get_logger
from core.runtime.memory import EvictingRedisError
from core.runtime.metrics import PortBusyError
from core.runtime.redis import command_client
from core.views.store import ViewStore
from services.archiver.archiver import Archiver
from services.archiver.beginning import Beginning
from services.archiver.compaction import Compactor
from services.archiver.erasing import Eraser
from services.archiver.moving import Mover
from services.archiver.retention import Retention
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
    spooled, store = Spooled(redis, keys), settings.open_store()
    archive = Archive(store, spool, parquet, spooled)
    views = ViewStore(redis, keys, feed_length=settings.stream_max_entries, ttl=settings.view_ttl)
    return Archiver(
        redis,
        keys,
        settings,
        beginning=Beginning(redis, keys, archive.bases, views),
        writer=Writer(redis, keys, spool, spooled, parquet, seconds=settings.archive_seconds),
        mover=Mover(spool, spooled, store),
        compactor=Compactor(store, spooled, parquet, spool.folder / "compacting"),
        retention=Retention(redis, keys, archive, store, days=settings.archive_retention),
        eraser=Eraser(redis, keys, store, archive.bases, parquet, spool.folder / "erasing"),
    )


def main() -> int:
    """Run until told to stop; 2 when a setting does not fit, 1 when Redis cannot be reached or a port is taken."""
    settings = ArchiverSettings()
    configure_logging("archiver", settings)
    try:
        put_together = partial(build, settings)
        port, missing = settings.metrics_port, "has not looked at the log yet"
        uvloop.run(work_until_stopped("archiver", settings, port, put_together, missing=missing))
    except (EvictingRedisError, LayoutError, ValueError) as error:
        get_logger().error("stream archiver stops", reason=str(error))
        return UNFIT
    except (RedisError, PortBusyError) as error:
        get_logger().error("stream archiver stops", reason=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
