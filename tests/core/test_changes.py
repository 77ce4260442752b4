"""What is different between two states of a view, and by which event."""

from copy import deepcopy
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from core.views.changes import as_json, changes, compare
from core.views.folds import State, evolve, initial
from pipai_contracts.ids import Topic
from tests.core.telling import records, step
from tests.projector.random_run import random_run

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y/z", "0"]), inner, max_size=3),
    max_leaves=8,
)


def _put(value: Any, path: tuple[str, ...], new: Any) -> Any:
    """The JSON value with another value at the end of the way."""
    if not path:
        return new
    step, *rest = path
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return [_put(item, tuple(rest), new) if str(place) == step else item for place, item in enumerate(items)]
    return {**value, step: _put(value.get(step), tuple(rest), new)}


def _without_nulls(value: Any) -> Any:
    """What is not there and what is null are the same to who compares."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {name: _without_nulls(one) for name, one in fields.items() if one is not None}
    return [_without_nulls(one) for one in cast("list[Any]", value)] if isinstance(value, list) else value


@given(_JSON, _JSON)
def test_what_differs_put_into_the_one_gives_the_other(one: Any, other: Any) -> None:
    result = deepcopy(one)
    for path, before, after in compare(one, other):
        assert before != after or type(before) is not type(after)
        result = _put(result, path, after)
    assert _without_nulls(result) == _without_nulls(other)


@given(st.integers(0, 10_000), st.integers(0, 30))
def test_each_value_was_set_by_the_last_event_after_which_it_is_another(seed: int, begin: int) -> None:
    topic = Topic.parse("default:user:ada")
    mine = [record for record in records(list(random_run(seed, 40))) if topic in record.topics]
    states: list[State] = [initial(topic)]
    for record in mine:
        states.append(evolve(states[-1], record))
    begin = min(begin, len(mine))
    found = changes(states[begin], list(zip(mine[begin:], states[begin + 1 :], strict=True)))
    result = as_json(states[begin])
    for path, before, after, record in found:
        place = mine.index(record)
        assert begin <= place
        assert dict(_flat(states[place])).get(path) != dict(_flat(states[place + 1])).get(path)
        assert before != after
        result = _put(result, path, after)
    assert result == as_json(states[-1])


def _flat(state: State) -> list[tuple[tuple[str, ...], Any]]:
    """Every value of the view, the inner and the outer ones."""

    def walk(value: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
        here = [(path, value)]
        if isinstance(value, dict):
            for name, one in cast("dict[str, Any]", value).items():
                here += walk(one, (*path, name))
        elif isinstance(value, list):
            for place, one in enumerate(cast("list[Any]", value)):
                here += walk(one, (*path, str(place)))
        return here

    return walk(as_json(state), ())


def test_a_value_that_came_back_to_what_it_was_has_not_changed() -> None:
    told = records([step(10), step(20), step(10)])
    states: list[State] = [initial(told[0].topics[0])]
    for record in told:
        states.append(evolve(states[-1], record))
    found = changes(states[1], list(zip(told[1:], states[2:], strict=True)))
    assert ("progress",) not in {one.path for one in found}
