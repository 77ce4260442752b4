"""The way into the log: every event ingest appends goes through here."""

import asyncio
from collections.abc import Sequence
from logging import DEBUG
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.append import Appender
from core.log.errors import DamagedLogError, LogUnavailableError
from core.log.layout import LayoutError
from core.log.requests import Requests
from core.runtime.logs import get_logger
from core.runtime.memory import EvictingRedisError, memory_fault, refuse_eviction
from core.runtime.redis import ask_masters
from pipai_contracts.envelope import Envelope
from pipai_contracts.publish import Published
from pipai_contracts.sealed import Sealed, seal
from services.ingest.backlog import Backlog, FullBacklogError
from services.ingest.metrics import events_counter
from services.ingest.pipeline import TIMEOUT, Answer, FullPipelineError, Pipeline

_UNFIT: Final = (EvictingRedisError, LayoutError)
"""What keeps ingest from working on this Redis until somebody changes a setting."""

Started = tuple[Sealed, asyncio.Future[Answer] | LogUnavailableError]
"""An event on its way; or one that was not sent, and why."""

_log = get_logger()


class Publisher:
    """Appends events, counts them, and says once when Redis goes away or comes back."""

    def __init__(self, redis: Redis, appender: Appender, backlog: Backlog, requests: Requests) -> None:
        self._redis = redis
        self._appender = appender
        self._backlog = backlog
        self._requests = requests
        self._pipeline = Pipeline(appender, self._called)
        self._keeps_events = False
        self._away = False
        self._damage = ""
        self._debugging = False

    async def check(self) -> None:
        """Ask whether Redis answers, has our layout and, the first time it answers, keeps what it acknowledges.

        Raises:
            LogUnavailableError: Redis does not answer.
            EvictingRedisError: Redis would throw events away.
            LayoutError: the deployment has another number of partitions, or is being repartitioned.
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                if self._keeps_events:
                    await ask_masters(self._redis, "PING")
                else:
                    await refuse_eviction(self._redis)
                await self._appender.check_layout()
                self._keeps_events = True
        except (RedisError, LogUnavailableError, OSError) as error:  # TimeoutError is an OSError
            self._went_away(error)
            raise LogUnavailableError(f"Redis does not answer: {error}") from error
        self._came_back()

    async def require(self) -> None:
        """Make sure that events about a document could be appended now.

        Raises:
            LogUnavailableError: Redis does not answer, or the backlog is full.
            EvictingRedisError: Redis would throw events away.
            LayoutError: the deployment has another number of partitions, or is being repartitioned.
        """
        await self.check()
        if self._backlog.any_full():
            raise FullBacklogError

    async def close(self) -> None:
        """End what is under way."""
        await self._pipeline.close()

    async def begin(self) -> None:
        """Check Redis at start. One that is away now is checked when it is back; until then nothing is taken.

        Raises:
            EvictingRedisError: Redis would throw events away.
            LayoutError: the deployment has another number of partitions.
        """
        self._debugging = _log.is_enabled_for(DEBUG)
        try:
            await self.check()
        except LogUnavailableError:
            return
        except _UNFIT as error:
            _log.error("stream ingest does not start on this Redis", reason=str(error))
            raise

    async def missing(self) -> str | None:
        """What keeps events from being taken, in words; None when nothing does."""
        try:
            await self.check()
            async with asyncio.timeout(TIMEOUT):
                return await memory_fault(self._redis)
        except (LogUnavailableError, RedisError, OSError):
            return "Redis does not answer"
        except _UNFIT as error:
            return str(error)

    async def bind(self, scope: str, key: str, body: bytes) -> bool:
        """Whether the ``Idempotency-Key`` of a request is new, or came with the very same body before.

        Raises:
            LogUnavailableError: Redis did not answer in time, or would throw events away.
        """
        await self.prepare()
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._requests.bind(scope, key, body)
        except (LogUnavailableError, TimeoutError) as error:
            self._went_away(error)
            raise LogUnavailableError(f"no answer: {error}") from error

    async def publish(self, envelopes: Sequence[Envelope]) -> list[Published]:
        """Append the events.

        Raises:
            EventTooLargeError: an event is over 256 KiB; nothing was appended.
            LogUnavailableError: one of them may not be stored: Redis did not answer in time, would throw events away,
                or has too many that are in no view yet.
        """
        published: list[Published] = []
        for answer in await self.offer([seal(envelope) for envelope in envelopes]):
            if isinstance(answer, LogUnavailableError):
                raise answer
            published.append(answer)
        return published

    async def offer(self, events: Sequence[Sealed]) -> list[Answer]:
        """Append what can be; per event where it stands, or why it may not be stored."""
        try:
            await self.prepare()
        except LogUnavailableError as error:
            return [self._counted(event, error) for event in events]
        return await self.finish(self.start(events))

    async def prepare(self) -> None:
        """Make sure that Redis keeps what it takes, if that is not known yet.

        Raises:
            LogUnavailableError: it does not, or does not answer.
        """
        if not self._keeps_events:
            await self._check_now()

    def start(self, events: Sequence[Sealed]) -> list[Started]:
        """Send the events on their way, in their order, behind those that were sent before."""
        return [(event, self._start(event)) for event in events]

    async def finish(self, started: Sequence[Started]) -> list[Answer]:
        """What became of the events that were sent."""
        return [
            self._counted(event, answer if isinstance(answer, LogUnavailableError) else await answer)
            for event, answer in started
        ]

    def _start(self, event: Sealed) -> asyncio.Future[Answer] | LogUnavailableError:
        """Send the event on its way, if there is room for it."""
        source = self._appender.source_of(event)
        if self._backlog.is_full(source):
            return FullBacklogError()
        try:
            return self._pipeline.append(source, event)
        except FullPipelineError as error:
            return error

    def _counted(self, event: Sealed, answer: Answer) -> Answer:
        """Count what became of the event and, for who debugs, log it."""
        if not isinstance(answer, Published):
            events_counter(event.type, "unavailable").inc()
        elif answer.duplicate:
            events_counter(event.type, "duplicate").inc()
        else:
            self._backlog.add(answer.stream, answer.offset)
            events_counter(event.type, "appended").inc()
        if self._debugging and isinstance(answer, Published):
            _log.debug("stream appended", **answer.model_dump(exclude={"offset"}))
        return answer

    async def _check_now(self) -> None:
        try:
            await self.check()
        except _UNFIT as error:
            self._went_away(error)
            raise LogUnavailableError(str(error)) from error

    def _called(self, error: Exception | None) -> None:
        """How a call of the pipeline went."""
        if error is None:
            self._came_back()
        elif isinstance(error, DamagedLogError):  # Redis is there, and other sources take events
            if self._damage != str(error):
                _log.error("stream log is damaged", reason=str(error))
            self._damage = str(error)
        else:
            self._went_away(error)

    def _went_away(self, error: Exception) -> None:
        if not self._away:
            _log.warning("stream log is away", reason=str(error) or type(error).__name__)
        self._away = True

    def _came_back(self) -> None:
        if self._away:
            _log.info("stream log is back")
        self._away = False
