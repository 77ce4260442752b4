"""The state of a user under another number of partitions is what it would be, had there always been so many."""

from collections.abc import Sequence

import pytest

from core.log.keys import Keys
from core.views.spread import spread
from core.views.user import RunState, UserState, evolve, initial, render
from pipai_contracts.record import Record, StreamId
from tests.core.telling import Told, notice, records, step
from tests.projector.random_run import random_run


def under(keys: Keys, told: Sequence[Record]) -> list[Record]:
    """The events in the sources of a layout."""
    return [
        record._replace(source=keys.source_of(record.envelope.event.type, record.envelope.topic).name)
        for record in told
    ]


def of_ada(seed: int, count: int) -> list[Told]:
    """Random events that all belong to one user."""
    return [one.by("ada") for one in random_run(seed, count) if getattr(one.event, "user_id", "ada") == "ada"]


def folded(told: Sequence[Record]) -> UserState:
    state = initial("ada")
    for record in told:
        state = evolve(state, record)
    return state


def runs(state: UserState) -> dict[str, list[tuple[str, RunState]]]:
    """Source → its runs, in their order; parts without any left out."""
    found = {name: [*part.active.items(), *part.ended.items()] for name, part in state.sources.items()}
    return {name: listed for name, listed in found.items() if listed}


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (4, 3), (2, 16)])
@pytest.mark.parametrize("seed", range(5))
def test_runs_are_where_their_later_events_will_be_told(before: int, after: int, seed: int) -> None:
    told = records(of_ada(seed, 200))
    old, new = folded(under(Keys(partitions=before), told)), folded(under(Keys(partitions=after), told))
    state = spread(old, "default", Keys(partitions=after), {})
    assert runs(state) == runs(new)
    assert render(state) == render(old) == render(new)
    later = under(Keys(partitions=after), records(of_ada(seed + 9, 100), start=1000))
    for record in later:
        state, new = evolve(state, record), evolve(new, record)
    assert render(state) == render(new)


def test_a_run_follows_its_event_to_another_stream_id() -> None:
    old = folded(under(Keys(partitions=4), records([step(10, of="w")])))
    ((source, _),) = runs(old).items()
    state = spread(old, "default", Keys(), {(source, StreamId(1, 0)): StreamId(1, 3)})
    assert state.sources["workflow:progress"].active["w"].at == StreamId(1, 3)


def test_merged_parts_keep_their_bounds() -> None:
    """Four parts of 100 become one of 100; the view, which lists as many, stays as it is."""
    told = under(Keys(partitions=4), records([step(10, of=f"w{number}") for number in range(500)]))
    old = folded(told)
    assert sum(len(part.active) for part in old.sources.values()) > 100
    state = spread(old, "default", Keys(), {})
    assert len(state.sources["workflow:progress"].active) == 100
    assert render(state) == render(old)


def test_notifications_and_counts_go_to_the_users_own_partition() -> None:
    told = under(Keys(), records([notice("a"), step(100, of="w"), notice("b")]))
    state = spread(folded(told), "default", Keys(partitions=4), {})
    assert sum(bool(part.notifications) for part in state.sources.values()) == 1
    assert render(state).counts.model_dump(exclude_defaults=True) == {"completed": 1, "notifications": 2}
