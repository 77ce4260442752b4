"""Appending events: each once, in one order per source stream."""

from collections.abc import Sequence
from typing import Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.log.errors import LogUnavailableError
from core.log.keys import Keys, Source
from core.runtime.lua import load_script
from pipai_contracts.envelope import Envelope, encode_data
from pipai_contracts.publish import Published

MAX_PER_CALL: Final = 200
"""Events one script call appends: while it runs Redis does nothing else."""

GENERATED_ID_WINDOW: Final = 60
"""Seconds an id we made ourselves is remembered: longer than the client's own retries last."""


class Appender:
    """Appends to the source streams of one deployment."""

    def __init__(self, redis: Redis, keys: Keys, *, idempotency_window: int, owner_ttl: int) -> None:
        self._redis = redis
        self._keys = keys
        self._window = idempotency_window
        self._owner_ttl = owner_ttl
        self._script = load_script(redis, __file__, "append.lua")

    async def append(self, envelopes: Sequence[Envelope], *, generated_ids: bool = False) -> list[Published]:
        """Append the events in their order; those of one topic stay in order.

        A repeat of an event id within the window answers where the first stands, with ``duplicate``.
        ``generated_ids``: the ids were made here, so no producer will repeat them later.

        Raises:
            EventTooLargeError: an event is over 256 KiB; nothing was appended.
            LogUnavailableError: Redis did not answer, or cannot take events; some may be appended.
        """
        envelopes, settled = await self._with_owners(envelopes)
        encoded = [
            (envelope, encode_data(envelope.event), index in settled) for index, envelope in enumerate(envelopes)
        ]
        window = GENERATED_ID_WINDOW if generated_ids else self._window
        by_source: dict[Source, list[int]] = {}
        for index, envelope in enumerate(envelopes):
            source = self._keys.source_of(envelope.event.type, envelope.topic)
            by_source.setdefault(source, []).append(index)
        answers: dict[int, Published] = {}
        for source, indexes in by_source.items():
            for start in range(0, len(indexes), MAX_PER_CALL):
                chunk = indexes[start : start + MAX_PER_CALL]
                published = await self._append_chunk(source, [encoded[i] for i in chunk], window)
                answers.update(zip(chunk, published, strict=True))
        return [answers[index] for index in range(len(envelopes))]

    async def _with_owners(self, envelopes: Sequence[Envelope]) -> tuple[list[Envelope], set[int]]:
        """The events with AI events given to who owns their workflow, and the indexes of those.

        A topic's owner is remembered beside its own stream, which AI events are not appended to; the script that
        appends them cannot look there, because the two streams may be in different slots.
        """
        owned = list(envelopes)
        ai = [index for index, envelope in enumerate(owned) if envelope.event.type == "ai_progress"]
        if not ai:
            return owned, set()
        async with self._redis.pipeline(transaction=False) as pipe:
            for index in ai:
                topic = owned[index].topic
                pipe.get(self._keys.source_of("workflow_progress", topic).owner(topic))
            try:
                owners = cast("list[bytes | None]", await pipe.execute())
            except RedisError as error:
                raise LogUnavailableError(f"cannot look up owners: {error}") from error
        known = {index: owner.decode() for index, owner in zip(ai, owners, strict=True) if owner is not None}
        for index, owner in known.items():
            owned[index] = owned[index].model_copy(update={"user_id": owner})
        return owned, set(known)

    async def _append_chunk(
        self, source: Source, events: list[tuple[Envelope, bytes, bool]], window: int
    ) -> list[Published]:
        script_keys: list[str] = [source.key, source.offset]
        arguments: list[str | int | bytes] = [self._owner_ttl]
        for envelope, data, settled in events:
            topic = envelope.topic
            script_keys += [source.owner(topic), source.seen(topic, envelope.event_id)]
            arguments += [
                envelope.event_id,
                envelope.event.type,
                envelope.v,
                envelope.tenant,
                topic.name,
                envelope.user_id or "",
                envelope.run_id or "",
                envelope.time,
                data,
                window,
                int(settled),
            ]
        try:
            answers = await self._script(keys=script_keys, args=arguments)
        except RedisError as error:
            raise LogUnavailableError(f"cannot append to {source.key}: {error}") from error
        return [
            Published(
                event_id=envelope.event_id,
                stream=source.key,
                stream_id=stream_id.decode(),
                topic=envelope.topic.name,
                offset=offset,
                duplicate=bool(duplicate),
            )
            for (envelope, _, _), (stream_id, offset, duplicate) in zip(events, answers, strict=True)
        ]
