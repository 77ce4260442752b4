"""Reading dead letters: page by page, one by one, counted."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.dead import ORIGINAL, PACKED, unpack
from core.log.errors import LogUnavailableError, UnknownLetterError, UnknownSourceError
from core.log.keys import SOURCES, Keys, Source
from core.runtime.redis import ask_holder
from pipai_contracts.dead_letters import DeadLetter, DeadLetterPage, LetterFilter
from pipai_contracts.record import BEGINNING, StreamId
from pipai_contracts.times import format_millis

LETTERS_READ: Final = 50
"""Letters read in one call. One may have 256 KiB, or more if another hand wrote it."""

_MAX_LOOKED_AT: Final = 2000
"""Letters a page looks at: a filter nothing fits would else read all of them for one answer."""

_MAX_TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class Census:
    """A source's dead letters: how many, and the seconds since the oldest was parked (0 without any)."""

    source: Source
    count: int
    oldest: float


class Letters:
    """The dead letters of one deployment, to look at."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def page(self, wanted: LetterFilter, *, after: str | None, limit: int) -> DeadLetterPage:
        """Letters from `DeadLetterPage.next` on, by source and then in the order of their ids.

        Raises:
            ValueError: ``after`` is no position.
            UnknownSourceError: there is no source of that name.
            LogUnavailableError: Redis did not answer.
        """
        sources = self.sources(wanted.source)
        start = BEGINNING
        if after is not None:
            at, start = self.parse_place(after)
            sources = sources[sources.index(at) :] if at in sources else []
        found: list[DeadLetter] = []
        looked_at = 0
        for source in sources:
            async for letters in self.read(source, after=start):
                for letter in letters:
                    looked_at += 1
                    if wanted.fits(letter):
                        found.append(letter)
                    if len(found) == limit or looked_at == _MAX_LOOKED_AT:
                        return DeadLetterPage(letters=found, next=place_of(letter.source, letter.id))
            start = BEGINNING
        return DeadLetterPage(letters=found)

    async def find(self, source: Source, letter_id: str) -> DeadLetter:
        """One letter.

        Raises:
            UnknownLetterError: there is no such letter.
            LogUnavailableError: Redis did not answer.
        """
        rows = await self._range(source, letter_id, letter_id, 1)
        if not rows:
            raise UnknownLetterError(f"there is no dead letter {source.name}/{letter_id}")
        return letter_of(source, *rows[0])

    async def count(self, wanted: LetterFilter) -> int:
        """How many letters fit.

        Raises:
            UnknownSourceError: there is no source of that name.
            LogUnavailableError: Redis did not answer.
        """
        count = 0
        for source in self.sources(wanted.source):
            async for letters in self.read(source):
                count += sum(wanted.fits(letter) for letter in letters)
        return count

    async def census(self) -> list[Census]:
        """How many letters each source has and how old they are: two cheap reads a source, in one round trip.

        The age is by the clock of the node that keeps the letters, which is asked where there are any.

        Raises:
            LogUnavailableError: Redis did not answer.
        """
        sources = self.sources(None)
        async with self._redis.pipeline(transaction=False) as pipe:
            for source in sources:
                pipe.xlen(self._keys.dead(source))
                pipe.xrange(self._keys.dead(source), count=1)
            try:
                answers = await pipe.execute()
                return [
                    Census(source, count, await self._age(source, *oldest[0]) if oldest else 0.0)
                    for source, count, oldest in zip(sources, answers[::2], answers[1::2], strict=True)
                ]
            except RedisError as error:
                raise LogUnavailableError(f"cannot count dead letters: {error}") from error

    async def _age(self, source: Source, letter_id: bytes, fields: dict[bytes, bytes]) -> float:
        seconds, micros = await ask_holder(self._redis, self._keys.dead(source), "TIME")
        return max(0.0, seconds + micros / 1e6 - _parked_at(letter_id, fields) / 1e3)

    async def read(
        self, source: Source, *, after: StreamId = BEGINNING, upto: StreamId | None = None
    ) -> AsyncIterator[list[DeadLetter]]:
        """All letters of a source between two ids, some at a time.

        Raises:
            LogUnavailableError: Redis did not answer.
        """
        while True:
            rows = await self._range(source, f"({after}", str(upto) if upto else "+", LETTERS_READ)
            if not rows:
                return
            yield [letter_of(source, *row) for row in rows]
            after = StreamId.parse(rows[-1][0])

    async def newest(self, source: Source) -> StreamId:
        """The id of the source's newest letter; `BEGINNING` when it has none.

        Raises:
            LogUnavailableError: Redis did not answer.
        """
        try:
            rows = cast("list[Any]", await self._redis.xrevrange(self._keys.dead(source), count=1))
        except RedisError as error:
            raise LogUnavailableError(f"cannot read {self._keys.dead(source)}: {error}") from error
        return StreamId.parse(rows[0][0]) if rows else BEGINNING

    def sources(self, name: str | None) -> list[Source]:
        """The partitions of all sources; those of one; or the one partition of that name.

        Raises:
            UnknownSourceError: there is no source of that name.
        """
        everything = self._keys.sources()
        if name is None:
            return everything
        named = {source.name for source in everything}
        partitions = range(self._keys.partitions) if name in SOURCES else ()
        wanted = {self._keys.source(name, partition).name for partition in partitions} or named & {name}
        if not wanted:
            raise UnknownSourceError(f"there is no source {name!r}; there are {', '.join(sorted(named))}")
        return [source for source in everything if source.name in wanted]

    def partition(self, name: str) -> Source:
        """The one partition of that name.

        Raises:
            UnknownSourceError: there is none, or it is the name of several.
        """
        sources = self.sources(name)
        if len(sources) > 1:
            raise UnknownSourceError(f"{name} has {len(sources)} partitions: say which, like {sources[0].name}")
        return sources[0]

    def parse_place(self, place: str) -> tuple[Source, StreamId]:
        """``<source>/<id>``, as `place_of` writes it.

        Raises:
            ValueError: it is of another form, or there is no such source.
        """
        name, slash, stream_id = place.rpartition("/")
        milliseconds, dash, sequence = stream_id.partition("-")
        if not (slash and dash and milliseconds.isdecimal() and sequence.isdecimal()):
            raise ValueError(f"must be like workflow:progress/1735689600000-0, not {place[:100]!r}")
        try:
            return self.partition(name), StreamId(int(milliseconds), int(sequence))
        except UnknownSourceError as error:
            raise ValueError(str(error)) from error

    async def _range(self, source: Source, start: str, end: str, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        key = self._keys.dead(source)
        try:
            rows = await self._redis.xrange(key, min=start, max=end, count=count)
        except RedisError as error:
            raise LogUnavailableError(f"cannot read {key}: {error}") from error
        return cast("list[tuple[bytes, dict[bytes, bytes]]]", rows)


def place_of(source: str, entry_id: StreamId | str) -> str:
    """Where an entry of a source, or a letter of its dead letters, stands, in one word: ``<source>/<id>``."""
    return f"{source}/{entry_id}"


def letter_of(source: Source, letter_id: bytes, raw: dict[bytes, bytes]) -> DeadLetter:
    """A letter as it is shown, of an entry of the dead letters' stream."""
    fields = original_of(raw)
    return DeadLetter(
        source=source.name,
        id=letter_id.decode(),
        stream_id=_shown(raw.get(b"stream_id", letter_id)),
        parked=format_millis(_parked_at(letter_id, raw)),
        attempts=_number(raw, b"attempts") or 1,
        error=_shown(raw.get(b"error", b"")),
        type=_readable(fields, b"type"),
        tenant=_readable(fields, b"tenant"),
        topic=_readable(fields, b"topic"),
        event_id=_readable(fields, b"id"),
        user_id=_readable(fields, b"user"),
        redriven_from=_readable(fields, b"redriven"),
        fields={_shown(name): _shown(value) for name, value in fields.items()},
    )


def original_of(raw: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The fields of the event in a letter."""
    if PACKED in raw:
        return unpack(raw[PACKED])
    return {name.removeprefix(ORIGINAL): value for name, value in raw.items() if name.startswith(ORIGINAL)}


def _parked_at(letter_id: bytes, raw: dict[bytes, bytes]) -> int:
    """Milliseconds; an entry that another hand put among the letters only has its id."""
    return _number(raw, b"parked") or StreamId.parse(letter_id).milliseconds


def _number(raw: dict[bytes, bytes], name: bytes) -> int:
    """The field as a number of our own making, else 0."""
    text = raw.get(name, b"")
    return int(text) if text.isdigit() and len(text) < 15 else 0  # noqa: PLR2004 - beyond any clock or count


def _shown(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def _readable(fields: dict[bytes, bytes], name: bytes) -> str | None:
    """The field as text, if that is what it is."""
    try:
        text = fields.get(name, b"").decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() and 1 <= len(text) <= _MAX_TEXT else None
