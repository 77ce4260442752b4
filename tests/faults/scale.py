"""How hard the fault tests press: a short round with every test run, the full one when ``FAULTS=full`` asks for it."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """``rate`` in events a second; ``seconds`` of load around a fault; ``kills`` of a projector in one test.

    ``apis``: how many api processes; ``viewers``: of each topic that is watched; ``crowd``: of each of many topics,
    where a test is about many viewers.
    """

    rate: int
    seconds: float
    kills: int
    apis: int = 1
    viewers: int = 1
    crowd: int = 20


SHORT = Scale(rate=300, seconds=2.0, kills=5)
FULL = Scale(rate=2000, seconds=10.0, kills=20, crowd=50)


def chosen() -> Scale:
    """The scale of this run."""
    return FULL if os.environ.get("FAULTS") == "full" else SHORT
