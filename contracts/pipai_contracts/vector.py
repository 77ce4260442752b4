"""Places in several topics at once: the ids on a connection that watches many."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple
from urllib.parse import quote, unquote

from pipai_contracts.cursor import Cursor, InvalidCursorError
from pipai_contracts.ids import KINDS, Kind, Topic, check_id

MAX_VECTOR: Final = 4096
"""Characters of a vector. A browser sends it back as a header, and proxies refuse long ones, nginx above 8 KiB."""

_LONGEST_CURSOR: Final = 25

Unknown = Literal["new", "dropped"]
Told = Cursor | Unknown
"""How far a topic was told; or that nothing of it was told yet; or that it is not watched any more."""

_MARKS: Final[dict[str, Unknown]] = {"*": "new", "-": "dropped"}
_MARK_OF: Final = {state: mark for mark, state in _MARKS.items()}


class InvalidVectorError(ValueError):
    """Not a vector: ``<cursor>,<cursor>…`` for the topics of the address, then ``;<topic>@<cursor>`` for each other."""


def parse_topic(tenant: str, name: str) -> Topic:
    """The topic that ``workflow:<id>`` names; the id is everything after the first colon.

    Raises:
        ValueError: it names none.
    """
    kind, colon, resource_id = name.partition(":")
    if not colon or kind not in KINDS:
        raise ValueError(f"{name[:80]!r} names no topic; it looks like workflow:<id>, file:<id> or user:<id>")
    found: Kind = next(one for one in KINDS if one == kind)
    return Topic(tenant, found, check_id(resource_id))


def topic_id(topic: Topic, cursor: Cursor) -> str:
    """``<topic>@<cursor>``: the id of an event whose frame many connections share."""
    return f"{topic.name}@{cursor}"


class Vector(NamedTuple):
    """How far a connection was told: of each topic of its address, in order, and of those that were added since.

    None: nothing of one that was added was told yet.
    """

    asked: tuple[Told, ...]
    added: Mapping[str, Cursor | None]

    def __str__(self) -> str:
        """The form on the wire: nothing in it can end a line or a header, whatever the topics are called."""
        asked = ",".join(_written(told) for told in self.asked)
        return asked + "".join(f";{_quoted(name)}@{_written(told or 'new')}" for name, told in self.added.items())

    @classmethod
    def parse(cls, text: str) -> "Vector":
        """Read the wire form.

        Raises:
            InvalidVectorError: it is none.
        """
        if len(text) > MAX_VECTOR:
            raise InvalidVectorError(f"is longer than {MAX_VECTOR} characters")
        asked, *rest = text.split(";")
        try:
            told: tuple[Told, ...] = tuple(_parse_told(part) for part in asked.split(","))
            added = {unquote(name, errors="strict"): _parse_added(told) for name, _, told in map(_split, rest)}
        except (InvalidCursorError, UnicodeDecodeError) as error:
            raise InvalidVectorError(f"{text[:80]!r} is no vector of cursors: {error}") from error
        if len(added) < len(rest):
            raise InvalidVectorError(f"{text[:80]!r} names a topic twice")
        return cls(told, added)

    def of(self, topics: Sequence[Topic]) -> dict[str, Cursor | None]:
        """Topic name → cursor (None: nothing told yet), for a connection whose address names these.

        Raises:
            InvalidVectorError: it is of an address with another number of topics.
        """
        if len(topics) != len(self.asked):
            raise InvalidVectorError(f"has {len(self.asked)} cursors for an address with {len(topics)} topics")
        places = {
            topic.name: None if told == "new" else told
            for topic, told in zip(topics, self.asked, strict=True)
            if told != "dropped"
        }
        if not self.added.keys().isdisjoint(topic.name for topic in topics):
            raise InvalidVectorError("names a topic of the address once more")
        return {**places, **self.added}


def vector_of(address: Sequence[Topic], told: Mapping[Topic, Cursor | None]) -> Vector:
    """The vector of a connection to ``address`` that watches these and was ``told`` so far of each (None: nothing)."""
    first = set(address)
    added = {topic.name: cursor for topic, cursor in told.items() if topic not in first}
    return Vector(tuple(_state(told, topic) for topic in address), added)


def fits(address: Sequence[Topic], watched: Iterable[Topic]) -> bool:
    """Whether a vector of this address can hold all that is watched, however far it gets."""
    added = [topic.name for topic in watched if topic not in address]
    names = sum(len(_quoted(name)) + 1 for name in added)
    return names + (len(address) + len(added)) * (_LONGEST_CURSOR + 1) <= MAX_VECTOR


def _state(told: Mapping[Topic, Cursor | None], topic: Topic) -> Told:
    return (told[topic] or "new") if topic in told else "dropped"


def _quoted(name: str) -> str:
    return quote(name, safe=":")


def _written(told: Told) -> str:
    return _MARK_OF[told] if isinstance(told, str) else str(told)


def _parse_added(part: str) -> Cursor | None:
    return None if part == _MARK_OF["new"] else Cursor.parse(part)


def _parse_told(part: str) -> Told:
    return _MARKS[part] if part in _MARKS else Cursor.parse(part)


def _split(part: str) -> tuple[str, str, str]:
    return part.rpartition("@")
