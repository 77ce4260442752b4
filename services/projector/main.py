"""The projector as a process: ``python -m services.projector``."""

import sys
from contextlib import AsyncExitStack
from functools import partial

import uvloop
from redis.exceptions import RedisError

from core.log.archive.spooled import Spooled
from core.log.history import History
from core.log.keys import Keys
from core.log.layout import LayoutError
from core.log.reader import LogReader
from core.runtime.background import work_until_stopped
from core.runtime.exits import UNFIT
from core.runtime.loaded import expect_many_objects, keep_loaded
from core.runtime.logs import configure_logging, get_logger
from core.runtime.memory import EvictingRedisError
from core.runtime.metrics import PortBusyError
from core.runtime.redis import command_client
from services.projector.broker import stream_broker
from services.projector.lease import Leases
from services.projector.projector import Projector
from services.projector.settings import ProjectorSettings


def build(settings: ProjectorSettings, stack: AsyncExitStack, leases: type[Leases] = Leases) -> Projector:
    """A projector with its own connections, which close with the stack; ``leases`` says how it shares the work."""
    redis = command_client(settings.redis_address())
    stack.push_async_callback(redis.aclose)
    broker = stream_broker(settings.redis_address(), settings.stream_block_time)
    keys = Keys(settings.key_prefix, settings.stream_partitions)
    archive = settings.open_archive(Spooled(redis, keys))
    if archive is not None:
        stack.callback(archive.close)
    history = History(LogReader(redis, keys), keys, archive)
    return Projector(settings, redis, broker, history, leases(redis, keys, seconds=settings.lease_seconds))


def main() -> int:
    """Run until told to stop; 2 when a setting does not fit Redis, 1 when that cannot be reached or a port is taken."""
    expect_many_objects()
    keep_loaded()
    settings = ProjectorSettings()
    configure_logging("projector", settings)
    try:
        put_together = partial(build, settings)
        port, missing = settings.metrics_port, "not following its partitions"
        uvloop.run(work_until_stopped("projector", settings, port, put_together, missing=missing))
    except (EvictingRedisError, LayoutError, ValueError) as error:
        get_logger().error("stream projector stops", reason=str(error))
        return UNFIT
    except (RedisError, PortBusyError) as error:
        get_logger().error("stream projector stops", reason=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
