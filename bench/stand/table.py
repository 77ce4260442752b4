"""Figures as Markdown."""

import statistics
from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first line names the columns."""
    lines = [_line(columns), f"|{'---|' * len(columns)}", *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


QUANTILES = ("median ms", "p95 ms", "p99 ms", "max ms")


def quantiles(times: Sequence[float]) -> list[str]:
    """The cells under `QUANTILES` for times in milliseconds."""
    ordered = sorted(times)
    shown = [statistics.median(ordered), *(ordered[int(len(ordered) * share)] for share in (0.95, 0.99)), ordered[-1]]
    return [f"{time:.2f}" for time in shown]
