"""What operators did to a deployment that its log does not say by itself."""

import getpass
import json
import socket
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, NamedTuple, cast

from redis.asyncio import Redis

from core.log.keys import Keys
from pipai_contracts.record import StreamId

MAX_ENTRIES: Final = 10_000
"""Entries kept; the oldest go first."""

_PAGE: Final = 500


class Audited(NamedTuple):
    """One entry. ``what``: what was done, or came of it; ``of`` is the entry that told of its begin."""

    entry_id: StreamId
    action: str
    by: str
    what: Mapping[str, Any]
    of: str | None


class AuditLog:
    """The audit log of one deployment, a stream of its own. Its methods raise `redis.exceptions.RedisError`."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._key = keys.audit

    async def write(self, action: str, what: Mapping[str, Any], *, of: str | None = None) -> str:
        """Note an action by whoever runs this process, before it is done, and what came of it behind it."""
        fields = {"action": action, "by": f"{_user()}@{socket.gethostname()[:64]}", "what": json.dumps(what)}
        if of is not None:
            fields["of"] = of
        added = await self._redis.xadd(self._key, cast("Any", fields), maxlen=MAX_ENTRIES, approximate=True)
        return cast("bytes", added).decode()

    async def entries(self) -> AsyncGenerator[Audited]:
        """All there are, oldest first."""
        after = "-"
        while page := cast("list[Any]", await self._redis.xrange(self._key, min=after, count=_PAGE)):
            for entry_id, fields in page:
                told = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
                what = json.loads(told.get("what", "{}"))
                yield Audited(
                    StreamId.parse(entry_id), told.get("action", ""), told.get("by", ""), what, told.get("of")
                )
            after = f"({page[-1][0].decode()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may have no name for its user
        return "unknown"
