"""The servers of the delivery bench, each a process of its own on core 0."""

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.stand.cores import pin
from bench.stand.payload import body, data, topic_id
from bench.stand.processes import children, file_limit
from bench.stand.publishers import FeedPublisher, HttpPublisher, Publisher
from core.log.keys import Keys
from core.runtime.ports import free_port

PLAIN: Final = "plain sse-starlette"

_CORE: Final = 0
_MODULES: Final = ("/usr/lib/nginx/modules", "/usr/share/nginx/modules", "/usr/lib64/nginx/modules")

_NGINX: Final = """
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections {files}; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    nchan_shared_memory_size 512m;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /readyz {{ return 200; }}
        location ~ ^/publish/(\\w+)$ {{
            nchan_publisher http;
            nchan_channel_id $1;
            nchan_message_buffer_length 1000;
        }}
        location ~ ^/stream/(\\w+)$ {{
            nchan_subscriber eventsource;
            nchan_channel_id $1;
            nchan_subscriber_first_message newest;
            nchan_eventsource_ping_interval 15;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Served:
    """A running server: the process that serves, where its topics are watched, and who publishes to them."""

    name: str
    pid: int
    port: int
    path: str
    publisher: Publisher

    def request(self, topic: int, cursor: str | None = None) -> bytes:
        """What a viewer of this topic asks."""
        resumed = f"Last-Event-ID: {cursor}\r\n" if cursor else ""
        path = self.path.format(topic_id(topic))
        return f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n{resumed}\r\n".encode()


Start = Callable[[ExitStack, Path, str], Served]
"""Starts a server that is stopped with the stack; given a folder of its own, and the address of Redis."""


def ours(stack: ExitStack, _folder: Path, redis: str) -> Served:
    """The api, published to as a projector does."""
    port, pid = service(stack, "services.api", redis)
    return Served("ours", pid, port, "/stream/workflow/{}", FeedPublisher(redis, Keys()))


def whole(stack: ExitStack, _folder: Path, redis: str) -> Served:
    """The api with everything before it, published to by HTTP."""
    service(stack, "services.projector", redis)
    ingest, _ = service(stack, "services.ingest", redis)
    port, pid = service(stack, "services.api", redis)
    publisher = HttpPublisher(ingest, "/stream/publish/workflow/{}", body)
    return Served("ours, the whole system", pid, port, "/stream/workflow/{}", publisher)


def plain(stack: ExitStack, _folder: Path, _redis: str) -> Served:
    """FastAPI, a queue per viewer, sse-starlette."""
    port = free_port()
    arguments = ["--log-level", "error", "--timeout-graceful-shutdown", "1", "--port", str(port)]
    command = [sys.executable, "-m", "uvicorn", *arguments, "bench.peers.queue_each:app"]
    pid = start(stack, command, port)
    return Served(PLAIN, pid, port, "/stream/{}", HttpPublisher(port, "/publish/{}", data))


def nchan(stack: ExitStack, folder: Path, _redis: str) -> Served:
    """Nginx with its nchan module: one worker."""
    port, (program, module) = free_port(), find_nchan() or ("", "")
    conf = folder / "nginx.conf"
    conf.write_text(_NGINX.format(module=module, folder=folder, port=port, files=file_limit()))
    (worker,) = children(start(stack, [program, "-p", str(folder), "-c", str(conf)], port))
    pin(worker, _CORE)
    return Served("nchan", worker, port, "/stream/{}", HttpPublisher(port, "/publish/{}", data))


def find_nchan() -> tuple[str, str] | None:
    """Nginx and its nchan module, where both are installed."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    modules = [Path(folder) / "ngx_nchan_module.so" for folder in _MODULES]
    module = next((module for module in modules if module.is_file()), None)
    return None if program is None or module is None else (program, str(module))


def service(stack: ExitStack, module: str, redis: str) -> tuple[int, int]:
    """One of our processes; returns its port, which is that of its metrics where it has no other, and its id."""
    port, metrics = free_port(), free_port()
    settings = {
        "REDIS_URL": redis,
        "TEMPORAL_ADDRESS": "",
        "PORT": str(port),
        "METRICS_PORT": str(metrics),
        "STREAM_PARTITIONS": "1",
        "API_WORKERS": "1",
    }
    asked = metrics if module == "services.projector" else port
    return port, start(stack, [sys.executable, "-m", module], asked, settings)


def start(stack: ExitStack, command: list[str], port: int, settings: dict[str, str] | None = None) -> int:
    """Run a server until the stack closes; returns its process id when it answers.

    Raises:
        RuntimeError: it ended, or did not answer within a minute.
    """
    process = launch(stack, command, settings=settings)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return process.pid
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise RuntimeError(f"{' '.join(command)} does not answer")


def launch(
    stack: ExitStack, command: list[str], *, settings: dict[str, str] | None = None, handles: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Run a process on the servers' core until the stack closes; ``handles``: open files it gets."""
    environment = {**os.environ, **(settings or {})}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, pass_fds=handles)
    stack.callback(_end, process)
    pin(process.pid, _CORE)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
