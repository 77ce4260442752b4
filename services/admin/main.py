"""``pipai-admin``: what an operator does to a deployment, straight on its Redis."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError
from redis.exceptions import RedisError

from core.log.errors import LogError
from core.log.keys import Keys
from core.log.layout import load_layout, require_same
from core.runtime.redis import command_client, safe_address
from core.runtime.settings import Settings
from services.admin.command import REFUSED, Command, Deployment, RefusedError
from services.admin.dead import DEAD
from services.admin.rebuild import REBUILD
from services.admin.repartition import REPARTITION
from services.admin.verify import VERIFY

COMMANDS: Final[tuple[Command, ...]] = (
    DEAD,
    VERIFY,
    REBUILD,
    REPARTITION,
)


def main(arguments: Sequence[str]) -> int:
    """Carry out one command and return its exit code: 0 done, 1 something was found, 2 refused.

    docs/guides/operations.md has them by command.
    """
    parser = argparse.ArgumentParser(prog="pipai-admin", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add_arguments(subparsers.add_parser(command.name, help=command.help, description=command.help))
    chosen = parser.parse_args(arguments)
    try:
        settings = Settings()
    except ValidationError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    command = next(command for command in COMMANDS if command.name == chosen.command)
    return asyncio.run(_carry_out(command, settings, chosen))


def run() -> int:
    """The entry point of the installed program."""
    return main(sys.argv[1:])


async def _carry_out(command: Command, settings: Settings, chosen: argparse.Namespace) -> int:
    redis = command_client(settings.redis_address())
    deployment = Deployment(settings, redis, Keys(settings.key_prefix, settings.stream_partitions))
    try:
        if not command.guarded:
            return await command.carry_out(deployment, chosen)
        require_same(await load_layout(redis, deployment.keys), deployment.keys)
        code = await command.carry_out(deployment, chosen)
        # A repartition that began meanwhile takes the keys away: what was found says nothing then.
        require_same(await load_layout(redis, deployment.keys), deployment.keys)
        return code  # noqa: TRY300 - the errors of all of it are told alike
    except RefusedError as error:
        sys.stderr.write(f"{error}\n")
    except (RedisError, LogError) as error:
        sys.stderr.write(f"{safe_address(settings.redis_address())}: {error}\n")
    finally:
        await redis.aclose()
    return REFUSED
