"""Who was erased: nobody who reads log or archive finds what was theirs, also while it is still being removed."""

import json
import time
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, cast

from redis.asyncio import Redis

from core.log.entry import Entry
from core.log.keys import Keys
from pipai_contracts.ids import Topic

_REMEMBERED: Final = 5.0
"""Seconds."""


class Tombstone(NamedTuple):
    """A user whose events up to ``until`` (milliseconds) are erased, with all those of these topics (their names).

    ``others``: the users who have owned one of the topics, too, so that what they were shown has to be made anew.
    """

    tenant: str
    user_id: str
    until: int
    topics: frozenset[str]
    others: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The user's own topic: there is one tombstone for each."""
        return Topic(self.tenant, "user", self.user_id).path

    @property
    def hidden_topics(self) -> set[Topic]:
        """Its topics, the user's own among them. What another hand wrote may be called what no topic is."""
        named = (_topic_of(self.tenant, name) for name in (*self.topics, f"user:{self.user_id}"))
        return {topic for topic in named if topic is not None}

    @property
    def size(self) -> int:
        """How many names it has: it only grows."""
        return len(self.topics) + len(self.others)

    @property
    def made_anew(self) -> set[Topic]:
        """The topics of ``others``, whose views are made of what is left."""
        return {Topic(self.tenant, "user", user_id) for user_id in self.others}

    def to_json(self) -> str:
        """As it is stored."""
        return json.dumps([self.tenant, self.user_id, self.until, sorted(self.topics), sorted(self.others)])

    @classmethod
    def from_json(cls, text: str | bytes) -> "Tombstone":
        """Read back what `to_json` gave."""
        tenant, user_id, until, *names = json.loads(text)
        return cls(tenant, user_id, until, *map(frozenset[str], names))

    def joined(self, other: "Tombstone | None") -> "Tombstone":
        """This and an earlier one of the same user."""
        if other is None:
            return self
        return self._replace(
            until=max(self.until, other.until), topics=self.topics | other.topics, others=self.others | other.others
        )


class Hidden:
    """What no reader is to find, by a number of tombstones."""

    def __init__(self, tombstones: Iterable[Tombstone]) -> None:
        self._users: dict[tuple[str, str], int] = {}
        self._topics: dict[tuple[str, str], int] = {}
        for one in tombstones:
            self._users[one.tenant, one.user_id] = one.until
            for topic in (*one.topics, f"user:{one.user_id}"):
                self._topics[one.tenant, topic] = max(one.until, self._topics.get((one.tenant, topic), 0))

    def __bool__(self) -> bool:
        """Whether there is anything at all."""
        return bool(self._users)

    def hides(self, tenant: str | None, topic: str | None, user_id: str | None, milliseconds: int) -> bool:
        """Whether an entry of this tenant, topic and owner, appended at that moment, is to be passed over."""
        if not self._users or tenant is None:
            return False
        return milliseconds <= max(
            self._users.get((tenant, user_id or ""), -1), self._topics.get((tenant, topic or ""), -1)
        )

    def hides_entry(self, entry: Entry) -> bool:
        """The same of an entry of the log."""
        if not self._users:
            return False
        tenant, topic, user_id = (
            entry.fields.get(name, b"").decode(errors="replace") for name in (b"tenant", b"topic", b"user")
        )
        return self.hides(tenant, topic, user_id, entry.stream_id.milliseconds)


NOBODY: Final = Hidden(())


def _topic_of(tenant: str, name: str) -> Topic | None:
    try:
        return Topic.parse(f"{tenant}:{name}")
    except ValueError:
        return None


class Tombstones:
    """The tombstones of one deployment. Its methods raise `redis.exceptions.RedisError`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = cast("Any", redis)  # its hash commands are typed for two kinds of client at once
        self._keys = keys
        self._hidden, self._asked = NOBODY, float("-inf")

    async def load(self) -> dict[str, Tombstone]:
        """All there are, by name."""
        stored = cast("dict[bytes, bytes]", await self._redis.hgetall(self._keys.tombstones))
        return {name.decode(): Tombstone.from_json(text) for name, text in stored.items()}

    async def hidden(self, *, fresh: bool = False) -> Hidden:
        """What they hide; as of some seconds ago, unless it is to be ``fresh``."""
        if fresh or self._asked < time.monotonic() - _REMEMBERED:
            self._hidden, self._asked = Hidden((await self.load()).values()), time.monotonic()
        return self._hidden

    async def add(self, tombstone: Tombstone) -> Tombstone:
        """Set one up, beside what an earlier one of the user says; returns what stands then."""
        stored = cast("bytes | None", await self._redis.hget(self._keys.tombstones, tombstone.name))
        whole = tombstone.joined(None if stored is None else Tombstone.from_json(stored))
        await self._redis.hset(self._keys.tombstones, whole.name, whole.to_json())
        return whole

    async def settle(self, tombstone: Tombstone, removed: int) -> None:
        """Note that the archive has nothing any more of what it hides: so many events were removed."""
        before = await self.removed(tombstone)
        told = json.dumps([tombstone.until, tombstone.size, removed + (before or 0)])
        await self._redis.hset(self._keys.erased, tombstone.name, told)

    async def is_settled(self, tombstone: Tombstone) -> bool:
        """Whether `settle` was told of it as it is."""
        stored = cast("bytes | None", await self._redis.hget(self._keys.erased, tombstone.name))
        return stored is not None and json.loads(stored)[:2] == [tombstone.until, tombstone.size]

    async def removed(self, tombstone: Tombstone) -> int | None:
        """How many of the user's events were ever removed from the archive."""
        stored = cast("bytes | None", await self._redis.hget(self._keys.erased, tombstone.name))
        return None if stored is None else json.loads(stored)[2]
