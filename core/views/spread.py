"""The state of a user when the number of partitions changes. Pure."""

from collections.abc import Mapping
from typing import Final, cast

from core.log.keys import SOURCES, Keys, partition_of
from core.views.user import MAX_ENDED, RunState, SourceState, UserState
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId
from pipai_contracts.views import MAX_LISTED, Counts

Moved = Mapping[tuple[str, StreamId], StreamId]
"""Old source name and stream id → new stream id, of the events whose id had to change."""

_RUNS: Final = ("workflow:progress", "analysis:progress")


def spread(state: UserState, tenant: str, new: Keys, moved: Moved) -> UserState:
    """The state with a part for each source stream partition of the new layout; it renders to the same view.

    Runs go to where their later events will be told, so that these fold into them. Notifications and counts, of which
    only the sum is shown, go to the user's own partition. Where parts are merged the bounds hold again: the 100 active
    and the 100 ended runs that spoke last stay.
    """
    own = partition_of(Topic(tenant, "user", state.id), new.partitions)
    parts: dict[str, SourceState] = {}
    for source in SOURCES:
        olds = {name: part for name, part in state.sources.items() if name == source or name.startswith(f"{source}:")}
        if not olds:
            continue
        home = new.source(source, own).name
        updated = max(part.updated for part in olds.values())
        parts[home] = SourceState(
            notifications=tuple(item for part in olds.values() for item in part.notifications)[:MAX_LISTED],
            counts=_sum([part.counts for part in olds.values()]),
            updated=updated,
        )
        if source in _RUNS:
            for name, runs in _by_partition(olds, source, tenant, new, moved).items():
                part = parts.get(name) or SourceState(updated=updated)
                parts[name] = part.changed(**runs)
    return state.changed(sources=dict(sorted(parts.items())))


def _sum(counts: list[Counts]) -> Counts:
    return Counts(**{name: sum(getattr(one, name) for one in counts) for name in Counts.model_fields})


def _by_partition(
    olds: Mapping[str, SourceState], source: str, tenant: str, new: Keys, moved: Moved
) -> dict[str, dict[str, dict[str, RunState]]]:
    """New source name → the fields ``active`` and ``ended`` of its part."""
    bounds = {"active": MAX_LISTED, "ended": MAX_ENDED}
    found: dict[str, dict[str, dict[str, RunState]]] = {}
    for state, bound in bounds.items():
        runs = [
            (key, run._replace(at=moved.get((name, StreamId(*run.at)), run.at)))
            for name, part in olds.items()
            for key, run in cast("dict[str, RunState]", getattr(part, state)).items()
        ]
        for key, run in sorted(runs, key=lambda one: one[1].at):
            name = new.source(source, partition_of(Topic(tenant, "workflow", key), new.partitions)).name
            found.setdefault(name, {"active": {}, "ended": {}})[state][key] = run
        for part in found.values():
            part[state] = dict(list(part[state].items())[-bound:])
    return found
