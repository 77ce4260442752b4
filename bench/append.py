"""How many events a second are taken in: ``./run bench append [--short]``.

Ways to bring the same event into a Redis stream, in turns, in one run on this machine:

- ours: HTTP publish, one event a request, and batches of 1,000;
- FastAPI's usual route with one XADD through redis-py for each request, nothing checked for repeats, nothing shared;
- redis-benchmark: XADD of entries as large as ours, one and 16 commands at once; what this Redis can do at all.

One core for the service, the other for Redis (with its append-only file) and the generator. Printed as Markdown tables:
medians of the rounds, how busy the service's and Redis's processes were, and the ratio of ours to each.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from bench.stand import generator
from bench.stand.cores import pin
from bench.stand.generator import Measured
from bench.stand.table import table
from core.runtime.ports import free_port
from services.standalone.embedded import Server, redis_server

EVENT: Final[dict[str, Any]] = {
    "step": "processing",
    "progress": 50,
    "message": "Extracting text from page 12 of 48",
    "user_id": "user-17",
    "metadata": {"page": 12, "pages": 48},
}
BATCH: Final = 1_000
MANY: Final = 64
COLUMNS: Final = ("way", "events/s", "median ms", "p99 ms", "service's core", "Redis's core", "ours ÷ this")
_COMMANDS: Final = 30_000


class Way:
    """One way into a stream. ``load`` runs it for some seconds; each of its requests brings ``events``."""

    def __init__(self, name: str, load: Callable[[float], Measured], events: int, watched: int | None) -> None:
        self.name = name
        self.loads: list[Measured] = []
        self.busy: list[tuple[float, float]] = []
        self._load = load
        self._events = events
        self._watched = watched

    def round(self, seconds: float, redis: int) -> None:
        """Run it once, with an eye on how busy the service's process and Redis's are."""
        processes = [psutil.Process(pid) for pid in (self._watched, redis) if pid is not None]
        before = [sum(process.cpu_times()[:2]) for process in processes]
        began = time.perf_counter()
        load = self._load(seconds)
        took = time.perf_counter() - began
        used = [
            (sum(process.cpu_times()[:2]) - earlier) / took for process, earlier in zip(processes, before, strict=True)
        ]
        self.loads.append(load._replace(rate=load.rate * self._events))
        self.busy.append((used[0] if self._watched else 0.0, used[-1]))

    @property
    def rate(self) -> float:
        """Events a second."""
        return statistics.median(load.rate for load in self.loads)

    def row(self, base: float) -> list[str]:
        """Its cells under `COLUMNS`."""
        service, redis = (statistics.median(column) for column in zip(*self.busy, strict=True))
        median = statistics.median(load.median for load in self.loads)
        p99 = statistics.median(load.p99 for load in self.loads)
        busy = f"{service:.0%}" if self._watched else ""
        shown = [f"{self.rate:,.0f}", f"{median:.2f}", f"{p99:.2f}", busy, f"{redis:.0%}"]
        return [self.name, *shown, f"{base / self.rate:.2f}"]


class Stand:
    """The processes, each on its core."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pin(os.getpid(), 1)  # Redis and the generators inherit it
        self.redis: Server = stack.enter_context(redis_server(self.folder / "redis"))
        [self.redis_pid] = [
            process.pid
            for process in psutil.Process().children(recursive=True)
            if str(self.redis.port) in " ".join(process.cmdline()) and "python" not in process.name()
        ][-1:]

    def service(self, command: list[str], port: int) -> int:
        """Start a service on the other core and wait until it is ready; its process id."""
        environment = {
            **os.environ,
            "REDIS_URL": self.redis.address,
            "TEMPORAL_ADDRESS": "",
            "STORAGE_URL": self.folder.as_uri(),
            "STREAM_BACKLOG_LIMIT": "1000000000",
            "PORT": str(port),
            "METRICS_PORT": str(free_port()),
        }
        process = subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.DEVNULL)
        self._stack.callback(process.wait, 10)
        self._stack.callback(process.terminate)
        _until_ready(f"http://127.0.0.1:{port}/readyz")
        pin(process.pid, 0)
        return process.pid

    def body(self, name: str, content: object) -> Path:
        """A file with a request's body."""
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(content))
        return file

    def benchmark(self, clients: int, at_once: int) -> Measured:
        """XADD by redis-benchmark, of fields as large as those of our entries."""
        fields = {
            "id": "0123456789abcdef0123456789abcdef",
            "type": "workflow_progress",
            "v": "1",
            "tenant": "default",
            "topic": "workflow:w123",
            "offset": "1234567",
            "user": EVENT["user_id"],
            "run": "",
            "time": "2025-01-01T00:00:00.000Z",
            "data": json.dumps({"workflow_id": "w123", **EVENT}, separators=(",", ":")),
        }
        entry = [part for field in fields.items() for part in field]
        count = str(_COMMANDS * at_once)
        options = ["-p", str(self.redis.port), "-c", str(clients), "-P", str(at_once), "-n", count, "--csv"]
        told = subprocess.run(
            ["redis-benchmark", *options, "XADD", "bench", "*", *entry], capture_output=True, check=True, text=True
        ).stdout
        columns = told.splitlines()[-1].replace('"', "").rsplit(",", 7)
        return Measured(float(columns[1]), float(columns[4]), float(columns[6]))


def _until_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urlopen(url, timeout=1):  # noqa: S310 - on this machine
                return
        except (URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def tables(stand: Stand) -> dict[str, list[Way]]:
    """The ways, by table; the first of each is ours."""
    port, plain_port = free_port(), free_port()
    ours = stand.service(["-m", "services.ingest"], port)
    uvicorn = ["-m", "uvicorn", "--log-level", "error", "--port", str(plain_port)]
    plain = stand.service([*uvicorn, "bench.peers.usual_service:app"], plain_port)
    one = stand.body("one", EVENT)
    many = stand.body(
        "many", [{"type": "workflow_progress", "workflow_id": f"w{n % 500}", **EVENT} for n in range(BATCH)]
    )

    def http(name: str, pid: int, address: str, body: Path, connections: int, events: int = 1) -> Way:
        def load(seconds: float) -> Measured:
            return generator.result(generator.start(address, body, connections, seconds))

        return Way(name, load, events, pid)

    def bare(clients: int, at_once: int = 1) -> list[Way]:
        if shutil.which("redis-benchmark") is None:
            return []
        name = f"redis-benchmark XADD, {at_once} at once" if at_once > 1 else "redis-benchmark XADD"
        return [Way(name, lambda _: stand.benchmark(clients, at_once), 1, None)]

    publish = f"http://127.0.0.1:{port}/stream/publish/workflow/w@"
    batch = f"http://127.0.0.1:{port}/stream/publish/batch"
    naive = f"http://127.0.0.1:{plain_port}/append/w@"
    return {
        "One connection, one event a request": [
            http("ours", ours, publish, one, 1),
            http("FastAPI and redis-py", plain, naive, one, 1),
            *bare(1),
        ],
        f"{MANY} connections, one event a request": [
            http("ours", ours, publish, one, MANY),
            http("FastAPI and redis-py", plain, naive, one, MANY),
            *bare(MANY),
            *bare(MANY, at_once=16),
        ],
        f"2 connections, {BATCH:,} events a request": [
            http("ours, batch", ours, batch, many, 2, BATCH),
            *bare(2, at_once=16),
        ],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="./run bench append", description=__doc__)
    parser.add_argument("--short", action="store_true", help="1 round of 1 s a way instead of 3 of 4 s")
    rounds, seconds = (1, 1.0) if parser.parse_args().short else (3, 4.0)
    print(f"{rounds} rounds of {seconds:.0f} s a way, {os.cpu_count()} cores, load by {generator.name()}\n", flush=True)
    with ExitStack() as stack:
        stand = Stand(stack)
        measured = tables(stand)
        for _ in range(rounds):
            for ways in measured.values():
                for way in ways:
                    way.round(seconds, stand.redis_pid)
    for title, ways in measured.items():
        print(f"{title}\n")
        print(table(COLUMNS, [way.row(ways[0].rate) for way in ways]), end="\n\n")


if __name__ == "__main__":
    main()
