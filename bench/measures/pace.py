"""How long a delivery takes at a steady rate, by the clock of who publishes and watches."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Final

from bench.measures.scale import Scale, Stage, running
from bench.stand.servers import PLAIN, Served, whole
from bench.stand.table import table
from bench.stand.watching import Load, watching

_WARM_SECONDS: Final = 0.5
_WINDOW: Final = 8
_COLUMNS: Final = ("server", "events/s", "deliveries/s", "p50 ms", "p99 ms", "p99: this ÷ first")


def latency(scale: Scale, stage: Stage) -> Iterator[str]:
    """Ours and nchan at a rate that leaves both some room; of the plain service what it reaches."""
    plain = next(server for server in stage.servers if server.name == PLAIN)
    rows = _paced(scale, [server for server in stage.servers if server is not plain], scale.rate)
    reached: list[float] = []
    for _round in range(scale.rounds):
        with watching(plain, scale.some, 1) as load:
            reached.append(load.saturate(scale.seconds, _WINDOW).rate)
    rows.append([f"{PLAIN}, at most", "", f"{statistics.median(reached):,.0f}", "", "", ""])
    yield table(_COLUMNS, rows)


def whole_system(scale: Scale, stage: Stage) -> Iterator[str]:
    """From a publish by HTTP through ingest, projector and api; and beside it the api alone."""
    with running([whole]) as system:
        yield table(_COLUMNS, _paced(scale, [*system.servers, stage.servers[0]], scale.whole_rate))


def _paced(scale: Scale, servers: Sequence[Served], rate: int) -> list[list[str]]:
    """A row for each, medians of the rounds, which are in turns."""
    found: dict[str, list[tuple[float, float]]] = {server.name: [] for server in servers}
    for _round in range(scale.rounds):
        for server in servers:
            with watching(server, scale.some, 1) as load:
                found[server.name].append(median_and_p99(load, rate, 2 * scale.seconds))
    rows: list[list[str]] = []
    base = 0.0
    for name, times in found.items():
        median, high = (statistics.median(figures) for figures in zip(*times, strict=True))
        base = base or high
        shown = [f"{median:.2f}", f"{high:.2f}", f"{high / base:.2f}"]
        rows.append([name, f"{rate}", f"{rate * scale.some:,}", *shown])
    return rows


def median_and_p99(load: Load, rate: int, seconds: float) -> tuple[float, float]:
    """Median and 99th percentile in milliseconds over all viewers of the sample."""
    load.steadily(rate, _WARM_SECONDS)
    for sample in load.viewers.samples:
        sample.times.clear()
    load.steadily(rate, seconds)
    times = sorted(time / 1e6 for sample in load.viewers.samples for time in sample.times)
    return statistics.median(times), times[int(len(times) * 0.99)]
