"""Leaving out of events what others must not see. Pure."""

from collections.abc import Sequence
from typing import Any, Final, cast

HIDDEN: Final = "[redacted]"

EVERY: Final = "*"
"""Part of a path that stands for every member of an object or a list."""

_USER: Final = "user_id"
_OPEN: Final = ("data", _USER, "correlation_id", "causation_id")
"""What may be hidden of an event; the rest says which event it is, and where it stands."""

Path = tuple[str, ...]


def parse_path(text: str) -> Path:
    """The parts of a dotted path.

    Raises:
        ValueError: there can be no such field, or it may not be hidden.
    """
    parts = tuple(text.split("."))
    if "" in parts or parts[0] not in _OPEN or (len(parts) > 1 and parts[0] != "data") or parts == ("data",):
        raise ValueError(f"{text!r} is not data.FIELD, data.FIELD.*, {_USER}, correlation_id or causation_id")
    return parts


class Redaction:
    """Hides the values at some paths of events: texts become ``[redacted]``, everything else null.

    A user's id becomes ``user-1``, ``user-2`` …, the same one for the same user in all events, wherever it stands as a
    user: else the events would say no more what belongs together. ``met`` are the paths that were there.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = [path for path in paths if path != (_USER,)]
        self._names: dict[str, str] | None = {} if (_USER,) in paths else None
        self.met: set[Path] = set()

    def topic(self, name: str) -> str:
        """The topic's name, as the events have it."""
        kind, _, resource_id = name.partition(":")
        return f"{kind}:{self._user(resource_id)}" if kind == "user" else name

    def of(self, event: dict[str, Any]) -> dict[str, Any]:
        """The event with these values hidden; it is not changed itself."""
        hidden = event
        for path in self._paths:
            hidden = self._hide(hidden, path, path)
        if self._names is None:
            return hidden
        return self._without_user(hidden)

    def _without_user(self, event: dict[str, Any]) -> dict[str, Any]:
        self.met.add((_USER,))
        told = {**event, "topic": None if event.get("topic") is None else self.topic(event["topic"])}
        if event.get(_USER) is not None:
            told[_USER] = self._user(event[_USER])
        data = cast("dict[str, Any]", event.get("data") or {})
        if isinstance(data.get(_USER), str):
            told["data"] = {**data, _USER: self._user(data[_USER])}
        return told

    def _user(self, user: str) -> str:
        if self._names is None:
            return user
        return self._names.setdefault(user, f"user-{len(self._names) + 1}")

    def _hide(self, value: Any, path: Path, whole: Path) -> Any:
        """The value without what is at the path below it."""
        if not path:
            self.met.add(whole)
            return HIDDEN if isinstance(value, str) else None
        first, rest = path[0], path[1:]
        if isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            chosen = members if first == EVERY else members.keys() & {first}
            return {
                name: self._hide(member, rest, whole) if name in chosen else member for name, member in members.items()
            }
        if isinstance(value, list) and first == EVERY:
            return [self._hide(member, rest, whole) for member in cast("list[Any]", value)]
        return cast("Any", value)
