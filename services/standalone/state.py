"""What other commands can know about a running system: who runs it, and how its services are."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ValidationError


class AlreadyRunningError(Exception):
    """The system already runs from this folder."""


class ServiceState(BaseModel):
    """One line of `./run status`. `pid` is the service itself, not its guard; None while it does not run."""

    name: str
    state: str
    pid: int | None
    restarts: int
    address: str


class SystemState(BaseModel):
    """Content of `run.json`. `address` is where pages and API are served, `http://host:port`."""

    pid: int
    address: str
    ready: bool
    services: list[ServiceState]


@contextmanager
def only_one(folder: Path) -> Generator[None]:
    """Hold the folder for this process. The lock ends with the process, however that ends: it is never stale.

    Raises:
        AlreadyRunningError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "run.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            known = read_state(folder)
            where = f" as process {known.pid}, at {known.address}" if known else ""
            raise AlreadyRunningError(f"It already runs from this folder{where}.") from None
        try:
            (folder / "run.json").unlink(missing_ok=True)  # of one that was killed
            yield
        finally:
            (folder / "run.json").unlink(missing_ok=True)


def is_running(folder: Path) -> bool:
    """Whether a process holds the folder."""
    try:
        with (folder / "run.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def write_state(folder: Path, state: SystemState) -> None:
    """Replace what is known about the system, at once for every reader."""
    fresh = folder / f"run.json.{os.getpid()}"
    fresh.write_text(state.model_dump_json(indent=2) + "\n")
    fresh.replace(folder / "run.json")


def read_state(folder: Path) -> SystemState | None:
    """What the running system last wrote; None when there is nothing to read."""
    try:
        return SystemState.model_validate_json((folder / "run.json").read_bytes())
    except (OSError, ValidationError):
        return None
