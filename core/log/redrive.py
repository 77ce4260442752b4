"""Dealing with dead letters: appending their events again, or deleting them."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Final, NamedTuple, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.dead import MAX_FIELDS
from core.log.errors import LogUnavailableError, UnknownLetterError
from core.log.keys import Keys, Source
from core.log.letters import LETTERS_READ, Letters
from core.runtime.lua import load_script
from pipai_contracts.dead_letters import DeadLetter, LetterFilter
from pipai_contracts.events import EventType
from pipai_contracts.ids import Kind, Topic, check_id
from pipai_contracts.record import StreamId
from pipai_contracts.upcast import is_newer

REPEAT_WINDOW: Final = 600
"""Seconds after which redriving a letter a second time says that it is gone, not that it was redriven already."""

_OWNER_KNOWN_BY: Final[dict[Kind, EventType]] = {
    "workflow": "workflow_progress",
    "file": "analysis_progress",
    "user": "notification",
}
"""The events whose stream remembers who owns a topic of the kind."""


class Tally(NamedTuple):
    """What one call did with its letters.

    ``refused`` are left where they are, ``gone`` were not there any more, ``already`` were redriven by another call
    within `REPEAT_WINDOW`.
    """

    done: int = 0
    refused: int = 0
    gone: int = 0
    already: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """Both together."""
        return Tally(*map(sum, zip(self, other, strict=True)))


class Resolved(NamedTuple):
    """What a filter's letters came to, by source; ``more``: the limit left some of them."""

    by_source: dict[str, Tally]
    more: bool

    @property
    def total(self) -> Tally:
        """All sources together."""
        total = Tally()
        for tally in self.by_source.values():
            total = total.plus(tally)
        return total


Step = Callable[[int], None]
"""Hears, while letters are resolved, of how many more that is true."""


class Resolver:
    """Redrives and purges the dead letters of one deployment.

    Every method raises `LogUnavailableError` when Redis does not answer, and those with a filter `UnknownSourceError`
    when it names none: what was resolved by then stays resolved, and calling again goes on.
    """

    def __init__(self, redis: Redis, keys: Keys, *, owner_ttl: int) -> None:
        self._redis = redis
        self._keys = keys
        self._owner_ttl = owner_ttl
        self._letters = Letters(redis, keys)
        self._script = load_script(redis, __file__, "redrive.lua")

    async def redrive(self, wanted: LetterFilter, *, limit: int, step: Step | None = None) -> Resolved:
        """Append the events of at most ``limit`` letters again, each source's in its order, and delete the letters.

        Letters parked from now on are left alone, so an event that still fails comes round once only.
        """
        return await self._resolve(wanted, limit, self._redrive, step)

    async def redrive_named(self, source: Source, letter_ids: Sequence[str]) -> Tally:
        """The same for these letters."""
        letters = await self._named(source, letter_ids)
        tally = Tally()
        for start in range(0, len(letters), LETTERS_READ):
            tally = tally.plus(await self._append(source, letters[start : start + LETTERS_READ]))
        return tally

    async def purge(self, wanted: LetterFilter, *, limit: int, step: Step | None = None) -> Resolved:
        """Delete at most ``limit`` letters; their events stay in the log, and in no view."""
        return await self._resolve(wanted, limit, self._purge, step)

    async def purge_named(self, source: Source, letter_ids: Sequence[str]) -> Tally:
        """The same for these letters."""
        return await self._delete(source, list(dict.fromkeys(letter_ids)))

    async def _resolve(
        self,
        wanted: LetterFilter,
        limit: int,
        deal_with: Callable[[Source, list[DeadLetter]], Awaitable[Tally]],
        step: Step | None,
    ) -> Resolved:
        by_source: dict[str, Tally] = {}
        left, more = limit, False
        for source in self._letters.sources(wanted.source):
            newest = await self._letters.newest(source)
            async for letters in self._letters.read(source, upto=newest):
                fitting = [letter for letter in letters if wanted.fits(letter)]
                chosen = fitting[:left]
                if chosen:
                    tally = await deal_with(source, chosen)
                    by_source[source.name] = by_source.get(source.name, Tally()).plus(tally)
                    left -= len(chosen)
                    if step is not None:
                        step(len(chosen))
                if len(chosen) < len(fitting):
                    more = True
                    break
            if more:
                break
        return Resolved(by_source, more)

    async def _purge(self, source: Source, letters: list[DeadLetter]) -> Tally:
        return await self._delete(source, [letter.id for letter in letters])

    async def _delete(self, source: Source, letter_ids: Sequence[str]) -> Tally:
        key = self._keys.dead(source)
        try:
            deleted = int(await self._redis.xdel(key, *letter_ids))
        except RedisError as error:
            raise LogUnavailableError(f"cannot purge {key}: {error}") from error
        return Tally(done=deleted, gone=len(letter_ids) - deleted)

    async def _named(self, source: Source, letter_ids: Sequence[str]) -> list[tuple[str, DeadLetter | None]]:
        """The letters in the order of their ids, None for those that are not there."""
        letters: dict[str, DeadLetter | None] = dict.fromkeys(sorted(letter_ids, key=StreamId.parse))
        for letter_id in letters:
            with suppress(UnknownLetterError):
                letters[letter_id] = await self._letters.find(source, letter_id)
        return list(letters.items())

    async def _redrive(self, source: Source, letters: list[DeadLetter]) -> Tally:
        return await self._append(source, [(letter.id, letter) for letter in letters])

    async def _append(self, source: Source, letters: Sequence[tuple[str, DeadLetter | None]]) -> Tally:
        """Append and delete in one script call; a letter that is not there may have been redriven just before."""
        fit = [(name, letter) for name, letter in letters if letter is None or not _is_unfit(letter)]
        owners = await self._owners(source, [letter for _, letter in fit])
        script_keys = [source.key, source.offset, self._keys.dead(source)]
        script_keys += [self._keys.redriven(source, name) for name, _ in fit]
        arguments: list[str | int] = [source.name, self._owner_ttl, REPEAT_WINDOW, token_hex(6)]
        for (name, _), (user, owner_key) in zip(fit, owners, strict=True):
            if user and owner_key:
                script_keys.append(owner_key)
            arguments += [name, user, len(script_keys) if user and owner_key else 0]
        try:
            answers = Counter(cast("list[bytes]", await self._script(keys=script_keys, args=arguments)))
        except RedisError as error:
            raise LogUnavailableError(f"cannot append to {source.key}: {error}") from error
        refused = len(letters) - len(fit)
        return Tally(answers[b"done"], refused, answers[b"gone"], answers[b"already"])

    async def _owners(self, source: Source, letters: Sequence[DeadLetter | None]) -> list[tuple[str, str]]:
        """For each letter's event whose it is now, and the key beside its own stream that remembers it.

        Both are empty where nobody can tell: the event names no topic, or no owner.
        """
        topics = [_topic_of(letter) for letter in letters]
        async with self._redis.pipeline(transaction=False) as pipe:
            for topic in topics:
                if topic is not None:
                    pipe.get(self._keys.source_of(_OWNER_KNOWN_BY[topic.kind], topic).owner(topic))
            try:
                remembered = iter(cast("list[bytes | None]", await pipe.execute()))
            except RedisError as error:
                raise LogUnavailableError(f"cannot look up owners: {error}") from error
        owners: list[tuple[str, str]] = []
        for letter, topic in zip(letters, topics, strict=True):
            if letter is None or topic is None:
                owners.append(("", ""))
                continue
            known = next(remembered)
            owners.append((known.decode() if known else _user_in(letter), source.owner(topic)))
        return owners


def _is_unfit(letter: DeadLetter) -> bool:
    """Whether the event must not be appended again.

    Redis's Lua could not copy one with more fields than any of ours; and a source would wait for one of a version
    this build cannot read, and keep everything after it waiting too.
    """
    fields = letter.fields or {}
    return len(fields) > MAX_FIELDS or is_newer(fields.get("v", ""))


def _user_in(letter: DeadLetter) -> str:
    """The owner the letter's event names; empty if that could own nothing."""
    with suppress(ValueError):
        return check_id(letter.user_id or "")
    return ""


def _topic_of(letter: DeadLetter | None) -> Topic | None:
    """What the letter's event is about, if it says so."""
    if letter is None or letter.tenant is None or letter.topic is None:
        return None
    with suppress(ValueError):
        return Topic.parse(f"{letter.tenant}:{letter.topic}")
    return None
