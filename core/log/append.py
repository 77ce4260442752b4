"""Appending events: each once, in one order per source stream."""

import time
from collections.abc import Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from core.log.damage import REPAIRED, faults_of
from core.log.errors import DamagedLogError, LogUnavailableError
from core.log.keys import Keys, Source
from core.log.layout import TRUSTED_SECONDS, LayoutError, check_layout
from core.runtime.logs import get_logger
from core.runtime.lua import load_script
from pipai_contracts.envelope import Envelope
from pipai_contracts.ids import check_id
from pipai_contracts.publish import Published
from pipai_contracts.sealed import Sealed, seal

MAX_PER_CALL: Final = 200
"""Events one script call appends: while it runs Redis does nothing else."""

GENERATED_ID_WINDOW: Final = 60
"""Seconds an id we made ourselves is remembered: longer than the client's own retries last."""


log = get_logger()


class Appender:
    """Appends to the source streams of one deployment."""

    def __init__(self, redis: Redis, keys: Keys, *, idempotency_window: int, owner_ttl: int) -> None:
        self._redis = redis
        self._keys = keys
        self._window = idempotency_window
        self._owner_ttl = owner_ttl
        self._looked_at = -TRUSTED_SECONDS
        self._script = load_script(redis, __file__, "append.lua")

    def source_of(self, event: Sealed) -> Source:
        """Where the event is appended."""
        return self._keys.source_of(event.type, event.topic)

    async def check_layout(self) -> None:
        """Check that events are appended where the deployment reads them; see `core.log.layout`.

        Raises:
            LayoutError: the deployment has another number of partitions.
            LogUnavailableError: Redis did not answer.
        """
        try:
            await check_layout(self._redis, self._keys)
        except RedisError as error:
            raise LogUnavailableError(f"cannot read the layout: {error}") from error

    async def append(self, envelopes: Sequence[Envelope]) -> list[Published]:
        """Append the events in their order; those of one topic stay in order.

        A repeat of an event id within the window answers where the first stands, with ``duplicate``.

        Raises:
            EventTooLargeError: an event is over 256 KiB; nothing was appended.
            LogUnavailableError: Redis did not answer, or cannot take events; some may be appended.
        """
        events = [seal(envelope) for envelope in envelopes]
        by_source: dict[Source, list[int]] = {}
        for index, event in enumerate(events):
            by_source.setdefault(self.source_of(event), []).append(index)
        answers: dict[int, Published] = {}
        for source, indexes in by_source.items():
            for start in range(0, len(indexes), MAX_PER_CALL):
                chunk = indexes[start : start + MAX_PER_CALL]
                for index, answer in zip(
                    chunk, await self.append_to(source, [events[index] for index in chunk]), strict=True
                ):
                    if isinstance(answer, LogUnavailableError):
                        raise answer
                    answers[index] = answer
        return [answers[index] for index in range(len(events))]

    async def append_to(self, source: Source, events: Sequence[Sealed]) -> list[Published | LogUnavailableError]:
        """Append up to `MAX_PER_CALL` events of one source in one call; an error in place of what has one of its own.

        Raises:
            LogUnavailableError: Redis did not answer, or cannot take events; some may be appended.
        """
        await self._look_at_layout()
        owners = await self._owners_elsewhere(events)
        script_keys: list[str] = [source.key, source.offset]
        arguments: list[str | int | bytes] = [self._owner_ttl, token_hex(6)]
        for event, owner in zip(events, owners, strict=True):
            topic = event.topic
            script_keys += (source.owner(topic), source.seen(topic, event.event_id))
            window = GENERATED_ID_WINDOW if event.made_id else self._window
            user = owner or event.user_id or ""
            lines = (
                f"{event.event_id}\n{event.type}\n{event.v}\n{topic.tenant}\n{topic.name}\n{user}\n"
                f"{event.run_id or ''}\n{event.time}\n{window}\n{1 if owner else 0}"
            )
            if event.correlation_id is not None or event.causation_id is not None:
                lines += f"\n{event.correlation_id or ''}\n{event.causation_id or ''}"
            arguments += (event.data, lines)
        try:
            answers = await self._script(keys=script_keys, args=arguments)
        except RedisError as error:
            raise await self._why_not(source, error) from error
        return [_answer(source, event, answer) for event, answer in zip(events, answers, strict=True)]

    async def _why_not(self, source: Source, error: RedisError) -> LogUnavailableError:
        """What kept the script from appending."""
        if isinstance(error, ResponseError):
            with suppress(RedisError):
                for fault in await faults_of(self._redis, [source]):
                    return DamagedLogError(f"cannot append to {source.key}: {fault}")
        return LogUnavailableError(f"cannot append to {source.key}: {error}")

    async def _look_at_layout(self) -> None:
        """Look now and then whether the deployment has another layout by now.

        It may have been repartitioned under a process nobody stopped, or flushed and begun anew. Without this the
        events would go, acknowledged, where nobody reads any more.
        """
        if time.monotonic() < self._looked_at + TRUSTED_SECONDS:
            return
        try:
            await check_layout(self._redis, self._keys)
        except LayoutError as error:
            raise LogUnavailableError(str(error)) from error
        except RedisError as error:
            raise LogUnavailableError(f"cannot read the layout: {error}") from error
        self._looked_at = time.monotonic()

    async def _owners_elsewhere(self, events: Sequence[Sealed]) -> list[str | None]:
        """Per event who owns its topic, for AI events of workflows that have an owner.

        A topic's owner is remembered beside its own stream, which AI events are not appended to; the script that
        appends them cannot look there, because the two streams may be in different slots. A key there that is no
        owner must not keep out the events of others, so it counts as none.
        """
        owners: list[str | None] = [None] * len(events)
        ai = [index for index, event in enumerate(events) if event.type == "ai_progress"]
        if not ai:
            return owners
        async with self._redis.pipeline(transaction=False) as pipe:
            for index in ai:
                topic = events[index].topic
                pipe.get(self._keys.source_of("workflow_progress", topic).owner(topic))
            try:
                found = cast("list[object]", await pipe.execute(raise_on_error=False))
            except RedisError as error:
                raise LogUnavailableError(f"cannot look up owners: {error}") from error
        for index, owner in zip(ai, found, strict=True):
            owners[index] = _owner_in(owner)
        return owners


def _owner_in(stored: object) -> str | None:
    """The owner in an answer of Redis; none in what is no id."""
    if isinstance(stored, bytes):
        with suppress(ValueError):
            return check_id(stored.decode())
    return None


def _answer(source: Source, event: Sealed, answer: Sequence[bytes | int]) -> Published | LogUnavailableError:
    match answer:
        case [bytes() as stream_id, int() as offset, int() as duplicate, *repaired]:
            if repaired:
                _tell_repaired(source, event, cast("list[bytes]", repaired))
            return Published(
                event_id=event.event_id,
                stream=source.key,
                stream_id=stream_id.decode(),
                topic=event.topic.name,
                offset=offset,
                duplicate=bool(duplicate),
            )
        case _:
            return LogUnavailableError(f"cannot append to {source.key}: keys of {event.topic.name}: {answer!r}")


def _tell_repaired(source: Source, event: Sealed, keys: Sequence[bytes]) -> None:
    """Say which notes of an event held something else; they were made anew with it."""
    owner = source.owner(event.topic).encode()
    for key in keys:
        REPAIRED.labels("owner" if key == owner else "seen").inc()
        log.error("key of the wrong type removed", key=key.decode())
