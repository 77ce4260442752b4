"""Deliveries a second when viewers always wait for more, and how much the load itself could take."""

import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final, NamedTuple

from bench.measures.scale import Scale, Stage
from bench.stand.servers import launch
from bench.stand.table import table
from bench.stand.viewers import Viewers
from bench.stand.watching import Saturated, watching

_WINDOW: Final = 64
_COLUMNS: Final = (
    "server",
    "deliveries/s, median",
    "lowest",
    "highest",
    "ours ÷ this",
    "core of the server",
    "core of the load",
)


class Setting(NamedTuple):
    """So many viewers of so many topics, with a window of so many events."""

    viewers: int
    topics: int
    window: int


def saturation(scale: Scale, stage: Stage) -> Iterator[str]:
    """A table for each setting, and that of the load alone."""
    settings = [
        # One on its way: with more, nchan comes to the 32,768th message of a channel within a second, and stops.
        Setting(1, 1, 1),
        Setting(scale.some, 1, _WINDOW),
        Setting(scale.some, 1, 1),
        Setting(scale.some, scale.topics, _WINDOW),
        Setting(scale.many, 1, _WINDOW),
    ]
    for setting in settings:
        found: dict[str, list[Saturated]] = {server.name: [] for server in stage.servers}
        for _round in range(scale.rounds):
            for server in stage.servers:
                with watching(server, setting.viewers, setting.topics) as load:
                    found[server.name].append(load.saturate(scale.seconds, setting.window))
        base = statistics.median(one.rate for one in found["ours"])
        told = f"{setting.viewers:,} viewers, {setting.topics} topics, {setting.window} events on their way:"
        yield f"{told}\n\n{table(_COLUMNS, [_row(name, results, base) for name, results in found.items()])}"
    alone = [_alone(scale, together) for together in (1, 16)]
    yield table(("load alone", "deliveries/s", "core of the load"), alone)


def _row(name: str, found: list[Saturated], base: float) -> list[str]:
    rates = [one.rate for one in found]
    median = statistics.median(rates)
    busy = [statistics.median(one.server for one in found), statistics.median(one.load for one in found)]
    return [
        name,
        *(f"{rate:,.0f}" for rate in (median, min(rates), max(rates))),
        f"{base / median:.2f}",
        *(f"{share:.0%}" for share in busy),
    ]


def _alone(scale: Scale, together: int) -> list[str]:
    """What the load takes of ready bytes, ``together`` events in a write."""
    command = [sys.executable, "-m", "bench.peers.ready_bytes"]
    found: list[tuple[float, float]] = []
    for _round in range(scale.rounds):
        with ExitStack() as stack:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
            handle = server.fileno()
            launch(stack, [*command, str(handle), str(scale.some), str(together)], handles=[handle])
            viewers = Viewers(server.getsockname()[1])
            stack.callback(viewers.close)
            viewers.connect([b"GET / HTTP/1.1\r\n\r\n"] * scale.some)
            found.append(_read(viewers, scale.seconds))
    rate, busy = (statistics.median(figures) for figures in zip(*found, strict=True))
    return [f"{scale.some:,} viewers, {together} events a write", f"{rate:,.0f}", f"{busy:.0%}"]


def _read(viewers: Viewers, seconds: float) -> tuple[float, float]:
    began, used, marks = time.perf_counter(), time.process_time(), viewers.received
    while (passed := time.perf_counter() - began) < seconds:
        viewers.turn(0.05)
    return (viewers.received - marks) / passed, (time.process_time() - used) / passed
