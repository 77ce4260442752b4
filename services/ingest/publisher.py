"""The way into the log: every event ingest appends goes through here."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.append import Appender
from core.log.errors import LogUnavailableError
from core.runtime.logs import get_logger
from core.runtime.redis import EvictingRedisError, refuse_eviction
from pipai_contracts.envelope import Envelope
from pipai_contracts.publish import Published
from services.ingest.metrics import APPEND_SECONDS, EVENTS

TIMEOUT: Final = 5.0
"""Seconds until a Redis that does not answer counts as away. The client's own retries could take longer."""

_log = get_logger()


class Publisher:
    """Appends events, counts them, and says once when Redis goes away or comes back."""

    def __init__(self, redis: Redis, appender: Appender) -> None:
        self._redis = redis
        self._appender = appender
        self._keeps_events = False
        self._away = False

    async def check(self) -> None:
        """Ask whether Redis answers and, the first time it does, whether it keeps what it acknowledges.

        Raises:
            LogUnavailableError: Redis does not answer.
            EvictingRedisError: Redis would throw events away.
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                if self._keeps_events:
                    await self._redis.ping()  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
                else:
                    await refuse_eviction(self._redis)
                    self._keeps_events = True
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            self._went_away(error)
            raise LogUnavailableError(f"Redis does not answer: {error}") from error
        self._came_back()

    async def begin(self) -> None:
        """Check Redis at start. One that is away now is checked when it is back; until then nothing is taken.

        Raises:
            EvictingRedisError: Redis would throw events away.
        """
        try:
            await self.check()
        except LogUnavailableError:
            return
        except EvictingRedisError as error:
            _log.error("stream ingest does not start on this Redis", reason=str(error))
            raise

    async def missing(self) -> str | None:
        """What keeps events from being taken, in words; None when nothing does."""
        try:
            await self.check()
        except LogUnavailableError:
            return "Redis does not answer"
        except EvictingRedisError as error:
            return str(error)
        return None

    async def publish(self, envelopes: Sequence[Envelope], *, generated_ids: bool = False) -> list[Published]:
        """Append the events; see `Appender.append`.

        Raises:
            EventTooLargeError: an event is over 256 KiB; nothing was appended.
            LogUnavailableError: Redis did not answer in time or would throw events away.
        """
        began = time.perf_counter()
        try:
            await self._check_once()
            async with asyncio.timeout(TIMEOUT):
                published = await self._appender.append(envelopes, generated_ids=generated_ids)
        except (LogUnavailableError, TimeoutError) as error:
            for envelope in envelopes:
                EVENTS.labels(envelope.event.type, "unavailable").inc()
            self._went_away(error)
            raise LogUnavailableError(str(error) or f"no answer within {TIMEOUT} s") from error
        APPEND_SECONDS.observe(time.perf_counter() - began)
        self._came_back()
        for envelope, place in zip(envelopes, published, strict=True):
            EVENTS.labels(envelope.event.type, "duplicate" if place.duplicate else "appended").inc()
            _log.debug(
                "stream appended",
                stream=place.stream,
                stream_id=place.stream_id,
                topic=place.topic,
                event_id=place.event_id,
                duplicate=place.duplicate,
            )
        return published

    async def _check_once(self) -> None:
        if self._keeps_events:
            return
        try:
            await self.check()
        except EvictingRedisError as error:
            raise LogUnavailableError(str(error)) from error

    def _went_away(self, error: Exception) -> None:
        if not self._away:
            _log.warning("stream log is away", reason=str(error) or type(error).__name__)
        self._away = True

    def _came_back(self) -> None:
        if self._away:
            _log.info("stream log is back")
        self._away = False
