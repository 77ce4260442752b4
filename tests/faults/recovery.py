"""How long the system took to be whole again after each fault. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from core.log.keys import Keys
from tests.faults.history import AnyHappening
from tests.faults.timeline import Timeline, event_of, timeline


class Recovery(NamedTuple):
    """From a fault's end until an event that was acknowledged only then is in a view, in the slowest source.

    ``seconds`` is None when no source was published to after the fault, or such an event never arrived.
    """

    fault: str
    seconds: float | None


def recoveries(history: Sequence[AnyHappening], keys: Keys) -> list[Recovery]:
    """One for each fault that ended, in their order."""
    put = timeline(history, keys)
    applied: dict[str, list[tuple[float, float]]] = {}
    for one in put.everything:
        publication = put.publications.get(event_of(one.event, one.data))
        if publication is not None and publication.oks and publication.envelope is not None:
            applied.setdefault(put.source(publication).name, []).append((publication.invoked[0].at, one.at))
    return [Recovery(fault.name, _slowest(put, fault.at, applied)) for fault in put.faults if fault.phase == "end"]


def _slowest(put: Timeline, since: float, applied: dict[str, list[tuple[float, float]]]) -> float | None:
    published = {put.source(one).name for one in put.publications.values() if one.oks and one.invoked[0].at >= since}
    firsts = [
        min((seen for invoked, seen in applied.get(source, []) if invoked >= since), default=None)
        for source in published
    ]
    if not firsts or None in firsts:
        return None
    return max(first for first in firsts if first is not None) - since
