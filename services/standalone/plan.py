"""Decides what `./run up` starts, from settings and what is on this machine."""

import os
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.error import URLError

from core.log.archive.place import OFF
from core.runtime.ports import free_port, next_free_port, port_is_free
from core.runtime.redis import safe_address
from core.runtime.settings import Settings
from core.runtime.temporal import temporal_target
from services.api.settings import ApiSettings
from services.archiver.settings import ArchiverSettings
from services.projector.settings import ProjectorSettings
from services.standalone.child import Service
from services.standalone.embedded import EmbeddedError, MissingProgramError, Server, redis_server, temporal_server
from services.standalone.settings import StandaloneSettings
from services.worker.settings import WorkerSettings

DOCUMENTED_METRICS: Final = tuple(
    settings.model_fields["metrics_port"].default
    for settings in (ApiSettings, WorkerSettings, ArchiverSettings, ProjectorSettings)
)
"""Where web, worker, archiver and projector have their metrics unless METRICS_PORT says otherwise."""

_DRAIN_SECONDS: Final = "1"
"""Unless DRAIN_SECONDS says otherwise: who pressed Ctrl-C waits."""


class BusyPortError(EmbeddedError):
    """Another program listens on a port that was asked for."""


@dataclass
class Plan:
    """Services in the stages they are started in, and the lines of the table that tells about them.

    ``redis_address`` has its password: it is not for logs.
    """

    web_address: str
    redis_address: str
    stages: list[list[Service]]
    table: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


@dataclass(frozen=True)
class Ports:
    """Ports that cannot move by themselves, because others are told to find them there."""

    web: int
    web_metrics: int
    worker_metrics: int
    archiver_metrics: int
    projector_metrics: tuple[int, ...]


def make_plan(settings: StandaloneSettings, folder: Path, projectors: int = 1) -> Plan:
    """Everything that is to run, with its data below `folder`, and so many `projectors`.

    Raises:
        EmbeddedError: a port is taken, or there is no Redis.
    """
    ports = choose_ports(settings, projectors)
    servers: list[Service] = []
    shared: dict[str, str] = {"LOG_FORMAT": settings.log_format}
    redis = external_redis(settings)
    if redis is None:
        server = redis_server(folder / "redis", settings.redis_port)
        servers.append(_service("redis", server))
        redis = shared["REDIS_URL"] = server.address
    temporal, ui = _plan_temporal(settings, folder, servers, shared)
    plan = Plan(
        web_address=f"http://{_url_host(settings.host)}:{ports.web}",
        redis_address=redis,
        stages=[servers, _own_services(settings, ports, shared, with_worker=temporal is not None)],
    )
    page_host = "localhost" if settings.host == "127.0.0.1" else _url_host(settings.host)
    plan.table = [
        ("page", f"http://{page_host}:{ports.web}/demo/streaming"),
        ("health", f"http://{page_host}:{ports.web}/stream/health"),
        ("redis", safe_address(redis)),
        ("temporal", temporal or "not configured: no temporal program here, and TEMPORAL_ADDRESS is not set"),
        *([("temporal ui", ui)] if ui else []),
        *([("projectors", _shares(projectors, settings.stream_partitions))] if projectors > 1 else []),
        *((f"metrics of {service.name}", service.address) for service in plan.stages[1]),
        ("data", str(folder)),
        ("stop", "Ctrl-C"),
    ]
    return plan


def external_redis(settings: Settings) -> str | None:
    """URL of the Redis the settings name (REDIS_URL, else the Upstash pair); None when they name none."""
    named = settings.redis_url is not None or settings.upstash_redis_rest_url
    return settings.redis_address() if named else None


def choose_ports(settings: StandaloneSettings, projectors: int = 1) -> Ports:
    """The ports of web and metrics, free at this moment.

    METRICS_PORT moves the four metrics ports to itself and the three after it; 0 takes any free ones. Further
    projectors have theirs on the next free ports after the first one's.

    Raises:
        BusyPortError: one of them is taken.
    """
    first = settings.metrics_port
    moved = (first, first + 1, first + 2, first + 3) if first else (0, 0, 0, 0)
    wanted = DOCUMENTED_METRICS if first is None else moved
    return Ports(
        _free(settings.port, "PORT", "pages and API"),
        _free(wanted[0], "METRICS_PORT", "metrics of pages and API"),
        _free(wanted[1], "METRICS_PORT", "metrics of the worker"),
        _free(wanted[2], "METRICS_PORT", "metrics of the archiver"),
        _projector_ports(_free(wanted[3], "METRICS_PORT", "metrics of the projector"), projectors),
    )


def _projector_ports(first: int, projectors: int) -> tuple[int, ...]:
    ports = [first]
    while len(ports) < projectors:
        ports.append(next_free_port(ports[-1] + 1))
    return tuple(ports)


def _free(port: int, setting: str, purpose: str) -> int:
    if port == 0:
        return free_port()
    if not port_is_free(port):
        raise BusyPortError(
            f"Port {port} ({purpose}) is taken by another program: end that, or choose another port, "
            f"as in `{setting}={port + 10} ./run up`."
        )
    return port


def _plan_temporal(
    settings: StandaloneSettings, folder: Path, servers: list[Service], shared: dict[str, str]
) -> tuple[str | None, str | None]:
    """Where Temporal is (or will be) and where its pages are; both None when there is none."""
    target = temporal_target(settings)
    if target is not None:
        return target.get("target_host"), None
    ui_port = next_free_port(settings.temporal_ui_port)
    try:
        server = temporal_server(folder / "temporal", settings.temporal_port, ui_port)
    except MissingProgramError:
        return None, None
    servers.append(_service("temporal", server))
    shared["TEMPORAL_ADDRESS"] = server.address
    return server.address, f"http://localhost:{ui_port}"


def _shares(projectors: int, partitions: int) -> str:
    """How the work is shared, for people: more projectors than partitions surprise those who hoped for speed."""
    told = f"{projectors} share STREAM_PARTITIONS={partitions}"
    idle = projectors - partitions
    return f"{told}: {idle} stand{'s' if idle == 1 else ''} by" if idle > 0 else told


def _service(name: str, server: Server) -> Service:
    return Service(name, server.command, server.address, server.answers)


def _own_services(
    settings: StandaloneSettings, ports: Ports, shared: dict[str, str], *, with_worker: bool
) -> list[Service]:
    def module(name: str, port: int, number: int = 1) -> Service:
        return _python(name if number == 1 else f"{name}-{number}", ["-m", f"services.{name}"], port, shared)

    services = [module("projector", port, number) for number, port in enumerate(ports.projector_metrics, start=1)]
    if settings.archive_url != OFF:
        services.append(module("archiver", ports.archiver_metrics))
    if with_worker:
        services.append(module("worker", ports.worker_metrics))
    base = f"http://{_url_host(settings.host)}:{ports.web}"
    own = {
        "HOST": settings.host,
        "PORT": str(ports.web),
        "DRAIN_SECONDS": os.environ.get("DRAIN_SECONDS", _DRAIN_SECONDS),
    }
    web = ["-m", "services.standalone.web"]
    services.append(_python("web", web, ports.web_metrics, {**shared, **own}, ready_at=f"{base}/readyz"))
    return services


def _python(name: str, arguments: list[str], metrics_port: int, shared: dict[str, str], ready_at: str = "") -> Service:
    metrics = f"http://127.0.0.1:{metrics_port}"
    return Service(
        name,
        [sys.executable, *arguments],
        f"{metrics}/metrics",
        _answers_ok(ready_at or f"{metrics}/readyz"),
        {**shared, "METRICS_PORT": str(metrics_port), "METRICS_HOST": "127.0.0.1"},
    )


def _answers_ok(url: str) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own http:// address
                return answer.status == 200  # noqa: PLR2004
        except (OSError, URLError):
            return False

    return ask


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
