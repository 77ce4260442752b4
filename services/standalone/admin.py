"""`./run pipai-admin`: on the Redis that `./run up` has here, whether that runs or not."""

import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from core.runtime.ports import NoFreePortError
from core.runtime.settings import what_is_wrong
from services.admin.command import REFUSED
from services.admin.main import main
from services.standalone.embedded import EmbeddedError, redis_server
from services.standalone.plan import external_redis
from services.standalone.settings import StandaloneSettings
from services.standalone.state import AlreadyRunningError, is_running, only_one, read_state

PROGRAM: Final = "./run pipai-admin"
"""What a person here types; the bare name would not be found, or look for another Redis."""


def admin(folder: Path, arguments: Sequence[str]) -> int:
    """Carry out a command of `pipai-admin`, and return its exit code.

    Unless the settings name a Redis it is the one in ``folder``: that of the running system, else it is started for as
    long as the command lasts.
    """
    try:
        settings = StandaloneSettings()
        if external_redis(settings) is not None or not (folder / "redis").is_dir():
            return main(arguments, PROGRAM)
        with _redis_here(settings, folder) as address:
            os.environ["REDIS_URL"] = address
            return main(arguments, PROGRAM)
    except ValidationError as error:
        problem = what_is_wrong(error)
    except (AlreadyRunningError, EmbeddedError, NoFreePortError) as error:
        problem = str(error)
    sys.stderr.write(f"{problem}\n")
    return REFUSED


@contextmanager
def _redis_here(settings: StandaloneSettings, folder: Path) -> Generator[str]:
    """The address of the folder's Redis."""
    state = read_state(folder) if is_running(folder) else None
    of_system = (
        next((service.address for service in state.services if service.name == "redis"), None) if state else None
    )
    if of_system is not None:
        yield of_system
        return
    with only_one(folder), redis_server(folder / "redis", settings.redis_port) as server:
        yield server.address
