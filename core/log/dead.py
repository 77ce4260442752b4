"""Parking events that could not be read or folded: whole, once, and without ever holding up the rest."""

import json
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from redis.asyncio import Redis

from core.log.entry import Entry
from core.log.keys import Keys, Source
from core.runtime.lua import load_script
from pipai_contracts.record import StreamId

MAX_DEAD: Final = 10_000
"""Dead letters kept per source stream partition; the oldest go first."""

ORIGINAL: Final = b"original:"
"""What the names of an event's fields begin with in its letter."""

PACKED: Final = b"packed"
"""The field that has all of the event's fields when these are very many."""

_MAX_ERROR: Final = 2000
MAX_FIELDS: Final = 1000
"""Fields a letter has of its own. Events have a dozen; Redis's Lua cannot pass on more than some thousand values."""

_KEEP_ASIDE: Final = 7 * 24 * 3600


class Parked(NamedTuple):
    """What parking came to.

    ``now``: False when the entry had been parked before, whatever became of its letter. ``pushed_out``: letters that
    had to go for this one. ``put_aside``: keys of the wrong type that stood in the way and were renamed.
    """

    now: bool
    pushed_out: int
    put_aside: int


class DeadLetters:
    """Where events go that no view can take."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._park = load_script(redis, __file__, "park.lua")

    async def park(self, source: Source, entry: Entry, error: Exception) -> Parked:
        """Keep the entry with all its fields and the error; parking it again changes nothing.

        Raises:
            redis.exceptions.RedisError: Redis did not answer or takes no writes; parking again is safe.
        """
        keys = self._keys
        fields: list[bytes | str | int] = [
            "stream_id",
            str(entry.stream_id),
            "error",
            f"{type(error).__name__}: {error}"[:_MAX_ERROR].encode(errors="backslashreplace"),
            "attempts",
            _tried_before(entry) + 1,
            *_original(entry.fields),
        ]
        script_keys = [
            keys.dead(source),
            keys.parked(source),
            source.key,
            keys.aside(source, "dead"),
            keys.aside(source, "parked"),
        ]
        answer = await self._park(keys=script_keys, args=[str(entry.stream_id), MAX_DEAD, _KEEP_ASIDE, *fields])
        now, pushed_out, put_aside = cast("Sequence[int]", answer)
        return Parked(bool(now), pushed_out, put_aside)

    async def parked_among(self, source: Source, entries: Sequence[Entry]) -> set[StreamId]:
        """Which of the entries, in stream order, were parked before: they stay out of every view.

        What reads the log again has to leave them out, even if this build could fold them: their letters may have been
        redriven, and their events would count twice.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
        """
        if not entries:
            return set()
        first, last = entries[0].stream_id.milliseconds, entries[-1].stream_id.milliseconds
        found = cast("list[bytes]", await self._redis.zrangebyscore(self._keys.parked(source), first, last))
        return {StreamId.parse(stream_id) for stream_id in found}


def unpack(packed: bytes) -> dict[bytes, bytes]:
    """The fields that `DeadLetters.park` put into one."""
    return {name.encode("latin-1"): value.encode("latin-1") for name, value in json.loads(packed)}


def _original(fields: dict[bytes, bytes]) -> list[bytes | str]:
    """The entry's fields as the letter has them, names and values in turn."""
    if len(fields) > MAX_FIELDS:  # Latin-1 has a character for every byte
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields.items()]
        return [PACKED, json.dumps(pairs)]
    return [part for name, value in fields.items() for part in (ORIGINAL + name, value)]


def _tried_before(entry: Entry) -> int:
    """How often the event was parked before it was redriven into this entry."""
    text = entry.fields.get(b"attempts", b"")
    return int(text) if text.isdigit() and len(text) < 10 else 0  # noqa: PLR2004 - who writes more is not us
