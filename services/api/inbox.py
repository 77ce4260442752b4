"""How any api process has a connection of another changed: by a list in Redis per process, and one per answer."""

import asyncio
import secrets
from typing import Final, cast

from pydantic import BaseModel, ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.keys import Keys
from core.runtime.logs import get_logger
from core.views.errors import UnreadableViewError
from pipai_contracts.cursor import Cursor
from pipai_contracts.ids import DEFAULT_TENANT
from pipai_contracts.many import TopicsChange, places_of
from pipai_contracts.vector import parse_topic
from services.api.connections import Connections, TooManyTopicsError, UnknownConnectionError
from services.api.presence import Presence

_ANSWER_SECONDS: Final = 2
"""How long another process is waited for; the client for commands waits three seconds for Redis."""

_KEEP_SECONDS: Final = 60
"""A list nobody reads is gone after that: its process is."""

_MOST_WAITING: Final = 1_000
_RETRY_SECONDS: Final = 0.5

log = get_logger()


class Request(BaseModel):
    """A change another process is asked for. ``reply`` names the answer's list."""

    reply: str
    connection_id: str
    change: TopicsChange


class Outcome(BaseModel):
    """What came of it: the topics the connection watches now, or why it was refused; neither: it is not open."""

    topics: list[str] | None = None
    refusal: str | None = None


class Inbox:
    """Changes connections of this process, and asks others to change theirs."""

    def __init__(
        self,
        redis: Redis,
        blocking: Redis,
        keys: Keys,
        connections: Connections,
        presence: Presence,
        *,
        block_ms: int,
    ) -> None:
        self._redis = redis
        self._blocking = blocking
        self._keys = keys
        self._connections = connections
        self._presence = presence
        self._block_seconds = max(block_ms / 1000, 0.01)

    async def run(self) -> None:
        """Do what others ask, for ever."""
        key = self._keys.inbox(self._connections.process)
        while True:
            try:
                taken = await self._blocking.blpop([key], timeout=self._block_seconds)  # pyright: ignore[reportArgumentType]
                if taken is not None:
                    await self._answer(cast("tuple[bytes, bytes]", taken)[1])
            except RedisError:
                await asyncio.sleep(_RETRY_SECONDS)  # the hub says that Redis is away

    async def _answer(self, text: bytes) -> None:
        try:
            request = Request.model_validate_json(text)
        except ValidationError as error:
            log.warning("stream request of another process cannot be read", error=str(error))
            return
        outcome = await self._change(request.connection_id, request.change)
        async with self._redis.pipeline(transaction=True) as pipe:
            key = self._keys.reply(request.reply)
            pipe.rpush(key, outcome.model_dump_json())
            pipe.expire(key, _KEEP_SECONDS)
            await pipe.execute()

    async def make(self, connection_id: str, change: TopicsChange) -> Outcome | None:
        """Have a connection changed, wherever it is; None when the process that serves it does not answer.

        Raises:
            UnknownConnectionError: it is not open, or not any more.
            redis.exceptions.RedisError: Redis did not answer.
        """
        process = connection_id.partition("-")[0]
        if process == self._connections.process:
            outcome = await self._change(connection_id, change)
        elif await self._presence.knows(process):
            outcome = await self._ask(process, connection_id, change)
        else:
            raise UnknownConnectionError(connection_id)
        if outcome == Outcome():
            raise UnknownConnectionError(connection_id)
        return outcome

    async def _change(self, connection_id: str, change: TopicsChange) -> Outcome:
        add = {
            parse_topic(DEFAULT_TENANT, name): None if cursor is None else Cursor.parse(cursor)
            for name, cursor in places_of(change.add).items()
        }
        drop = [parse_topic(DEFAULT_TENANT, name) for name in change.drop]
        try:
            topics = await self._connections.change(connection_id, add, drop)
        except UnknownConnectionError:
            return Outcome()
        except (TooManyTopicsError, UnreadableViewError) as error:
            return Outcome(refusal=str(error))
        return Outcome(topics=[topic.name for topic in topics])

    async def _ask(self, process: str, connection_id: str, change: TopicsChange) -> Outcome | None:
        request = Request(reply=secrets.token_hex(16), connection_id=connection_id, change=change)
        async with self._redis.pipeline(transaction=True) as pipe:
            key = self._keys.inbox(process)
            pipe.rpush(key, request.model_dump_json())
            pipe.ltrim(key, -_MOST_WAITING, -1)
            pipe.expire(key, _KEEP_SECONDS)
            await pipe.execute()
        reply = self._keys.reply(request.reply)
        taken = await self._redis.blpop([reply], timeout=_ANSWER_SECONDS)  # pyright: ignore[reportArgumentType]
        return None if taken is None else Outcome.model_validate_json(cast("tuple[bytes, bytes]", taken)[1])
