"""What is different between two states of a view, and which event made it so. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

from pydantic_core import to_jsonable_python

from core.views.folds import State, render
from pipai_contracts.record import Record

Path = tuple[str, ...]
"""The way to a value: names of fields, and places in lists as numbers."""


class Changed(NamedTuple):
    """A value that is another now, as JSON, None for what is not there; ``record`` is the event that set it last."""

    path: Path
    before: Any
    after: Any
    record: Record


def as_json(state: State) -> Any:
    """The view as viewers get it."""
    return to_jsonable_python(render(state))


def compare(one: Any, other: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """The innermost values in which two JSON values differ; lists of different lengths differ as a whole."""
    if type(one) is not type(other):
        yield path, one, other
    elif isinstance(one, dict):
        first, second = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
        for name in {**first, **second}:
            yield from compare(first.get(name), second.get(name), (*path, name))
    elif isinstance(one, list) and len(cast("list[Any]", one)) == len(cast("list[Any]", other)):
        for place, values in enumerate(zip(cast("list[Any]", one), cast("list[Any]", other), strict=True)):
            yield from compare(*values, (*path, str(place)))
    elif one != other:
        yield path, one, other


def changes(before: State, steps: Sequence[tuple[Record, State]]) -> list[Changed]:
    """What is another after the last of these steps than ``before``, each an event and the state it led to.

    Looked for from the end: most values were set by the newest events.
    """
    if not steps:
        return []
    after = as_json(steps[-1][1])
    open_ones = {path: (was, now) for path, was, now in compare(as_json(before), after)}
    order, found = list(open_ones), dict[Path, Changed]()
    states = [before, *(state for _, state in steps)]
    for (record, state), earlier in zip(reversed(steps), reversed(states[:-1]), strict=True):
        if not open_ones:
            break
        if earlier is state:
            continue
        there = as_json(earlier)
        for path, (was, now) in list(open_ones.items()):
            if next(compare(_value_at(there, path), _value_at(after, path)), None) is not None:
                found[path] = Changed(path, was, now, record)
                del open_ones[path]
    return [found[path] for path in order]


def _value_at(value: Any, path: Path) -> Any:
    """The value there; None when the way does not exist."""
    for step in path:
        if isinstance(value, dict):
            value = cast("dict[str, Any]", value).get(step)
        elif isinstance(value, list):
            items = cast("list[Any]", value)
            value = items[int(step)] if int(step) < len(items) else None
        else:
            return None
    return value
