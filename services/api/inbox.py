"""How any api process has a connection of another changed: each has a list in Redis that it takes letters from.

The answer is a letter to who asked. So a process needs one connection for this, however many changes are under way.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, cast

from pydantic import BaseModel, TypeAdapter, ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.keys import Keys
from core.runtime.logs import get_logger
from core.runtime.tasks import end, report_failure, running
from core.views.errors import UnreadableViewError
from pipai_contracts.many import TopicsChange
from services.api.access import Reader
from services.api.connections import BusyConnectionError, Connections, TooManyTopicsError, UnknownConnectionError
from services.api.presence import Presence

_ANSWER_SECONDS: Final = 5.0
"""How long another process is waited for; its own patience with a viewer is less."""

_KEEP_SECONDS: Final = 60
"""A list nobody reads is gone after that: its process is."""

_MOST_WAITING: Final = 1_000
"""Letters that wait for a process; with more the oldest go, whose senders have given up before."""

_AT_ONCE: Final = 100
"""Changes for others that are under way at a time."""

_CALLS_AT_ONCE: Final = 4
"""Calls to Redis of this process for changes elsewhere, each on a connection of its own."""

_RETRY_SECONDS: Final = 0.5

log = get_logger()


class Outcome(BaseModel):
    """What came of a change: the topics the connection watches now, or why it was refused; neither: it is not open.

    ``busy``: it was not made because of what the refusal says, and may be made later.
    """

    topics: list[str] | None = None
    refusal: str | None = None
    busy: bool = False


class Request(BaseModel):
    """A change another process is asked for, which answers ``sender``."""

    request: str
    sender: str
    connection_id: str
    tenant: str
    change: TopicsChange


class Answer(BaseModel):
    """What came of the ``request``."""

    request: str
    outcome: Outcome


_letters: Final = TypeAdapter[Request | Answer](Request | Answer)


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
        self._block_seconds = block_ms / 1000
        self._asked: dict[str, asyncio.Future[Outcome]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._calls = asyncio.Semaphore(_CALLS_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Take letters while the block lasts."""
        try:
            async with running(self._take_letters()):
                yield
        finally:
            await end(self._tasks)

    async def make(self, connection_id: str, asking: Reader, change: TopicsChange) -> Outcome | None:
        """Have a connection changed, wherever it is; None when the process that serves it does not answer.

        Raises:
            UnknownConnectionError: it is not open, or not any more.
            redis.exceptions.RedisError: Redis did not answer.
        """
        process = connection_id.partition("-")[0]
        if process == self._connections.process:
            outcome = await self._change(connection_id, asking, change)
        else:
            async with self._calls:
                known = await self._presence.knows(process)
            if not known:
                raise UnknownConnectionError(connection_id)
            outcome = await self._ask(process, connection_id, asking, change)
        if outcome == Outcome():
            raise UnknownConnectionError(connection_id)
        return outcome

    async def _change(self, connection_id: str, asking: Reader, change: TopicsChange) -> Outcome:
        drop = {asking.named(name) for name in change.drop}
        try:
            topics = await self._connections.change(connection_id, asking.places(change.add), drop)
        except UnknownConnectionError:
            return Outcome()
        except BusyConnectionError:
            return Outcome(refusal="its viewer does not read what waits for it", busy=True)
        except (TooManyTopicsError, UnreadableViewError) as error:
            return Outcome(refusal=str(error))
        return Outcome(topics=[topic.name for topic in topics])

    # Between processes

    async def _ask(self, process: str, connection_id: str, asking: Reader, change: TopicsChange) -> Outcome | None:
        name = secrets.token_hex(8)
        request = Request(
            request=name,
            sender=self._connections.process,
            connection_id=connection_id,
            tenant=asking.tenant,
            change=change,
        )
        self._asked[name] = answer = asyncio.get_running_loop().create_future()
        try:
            await self._send(process, request)
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._asked[name]

    async def _send(self, process: str, letter: BaseModel) -> None:
        key = self._keys.inbox(process)
        async with self._calls, self._redis.pipeline(transaction=False) as pipe:
            pipe.rpush(key, letter.model_dump_json())
            pipe.ltrim(key, -_MOST_WAITING, -1)
            pipe.expire(key, _KEEP_SECONDS)
            await pipe.execute()

    async def _take_letters(self) -> None:
        key = self._keys.inbox(self._connections.process)
        while True:
            try:
                async with self._turns:
                    taken = await self._blocking.blpop([key], timeout=self._block_seconds)  # pyright: ignore[reportArgumentType]
                if taken is not None:
                    self._open(cast("tuple[bytes, bytes]", taken)[1])
            except RedisError:
                await asyncio.sleep(_RETRY_SECONDS)  # the hub says that Redis is away

    def _open(self, text: bytes) -> None:
        try:
            letter = _letters.validate_json(text)
        except ValidationError as error:
            log.warning("stream letter of another process cannot be read", error=str(error)[:1000])
            return
        if isinstance(letter, Request):
            task = asyncio.create_task(self._answer(letter))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(report_failure)
        elif (asked := self._asked.get(letter.request)) is not None and not asked.done():
            asked.set_result(letter.outcome)

    async def _answer(self, request: Request) -> None:
        async with self._turns:
            try:
                outcome = await self._change(request.connection_id, Reader(request.tenant), request.change)
                await self._send(request.sender, Answer(request=request.request, outcome=outcome))
            except RedisError as error:
                log.warning("stream connection cannot be changed", error=str(error))
