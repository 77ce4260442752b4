"""Source streams are kept at their length, and nothing is trimmed that a view still needs."""

import time
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis

from core.log.append import Appender
from core.log.groups import ForeignGroups
from core.log.keys import Keys, Source
from core.log.read import read_entries
from core.log.trim import UNTOUCHED, Trimmed, Trimmer
from pipai_contracts.record import BEGINNING, StreamId
from tests.core.telling import step


class Clock:
    """What time it is where groups are looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = 0.0
        ahead = SimpleNamespace(
            time=lambda: time.time() + self._ahead, monotonic=lambda: time.monotonic() + self._ahead
        )
        monkeypatch.setattr("core.log.groups.time", ahead)

    def goes_on(self, seconds: float) -> None:
        self._ahead += seconds


@pytest.fixture
def source(keys: Keys) -> Source:
    return keys.source("workflow:progress", 0)


async def _append(appender: Appender, first: int, last: int) -> None:
    await appender.append([step(1).envelope(f"e{number}") for number in range(first, last + 1)])


async def _offsets(redis: Redis, source: Source) -> list[int]:
    return [entry.offset for entry in await read_entries(redis, source, after=BEGINNING, count=10_000)]


def _trimmer(redis: Redis, *, max_entries: int, idle_limit: int = 600, held_limit: int = 1000) -> Trimmer:
    groups = ForeignGroups(redis, idle_limit=idle_limit)
    return Trimmer(redis, groups, max_entries=max_entries, held_limit=held_limit)


async def _at(redis: Redis, source: Source, offset: int) -> StreamId:
    """Where the event with this offset stands."""
    entries = await read_entries(redis, source, after=BEGINNING, count=10_000)
    (stream_id,) = [entry.stream_id for entry in entries if entry.offset == offset]
    return stream_id


async def _trim(trimmer: Trimmer, redis: Redis, source: Source, offset: int) -> Trimmed:
    """Trim with the checkpoint at the event that has this offset."""
    return await trimmer.trim(source, [await _at(redis, source, offset)])


async def test_what_every_view_has_is_trimmed_to_the_length(redis: Redis, appender: Appender, source: Source) -> None:
    await _append(appender, 1, 50)

    await _trim(_trimmer(redis, max_entries=20), redis, source, 50)

    assert await _offsets(redis, source) == list(range(31, 51))


async def test_what_a_view_still_needs_stays(redis: Redis, appender: Appender, source: Source) -> None:
    await _append(appender, 1, 50)

    await _trim(_trimmer(redis, max_entries=20), redis, source, 7)

    assert await _offsets(redis, source) == list(range(8, 51))


async def test_entries_added_by_hand_push_nothing_out_that_a_view_still_needs(
    redis: Redis, appender: Appender, source: Source
) -> None:
    """They have no offset: whoever counts offsets takes each of them for an event less to keep."""
    await _append(appender, 1, 10)
    for _ in range(8):
        await redis.xadd(source.key, {"by": "hand"})

    await _trim(_trimmer(redis, max_entries=2), redis, source, 4)

    assert [offset for offset in await _offsets(redis, source) if offset] == list(range(5, 11))
    assert await redis.xlen(source.key) == 14


async def test_entries_added_by_hand_before_the_checkpoint_go_with_the_events(
    redis: Redis, appender: Appender, source: Source
) -> None:
    await redis.xadd(source.key, {"by": "hand"})
    await _append(appender, 1, 10)

    await _trim(_trimmer(redis, max_entries=2), redis, source, 10)

    assert await _offsets(redis, source) == [9, 10]


async def test_a_stream_far_over_its_length_is_trimmed_bit_by_bit(
    redis: Redis, appender: Appender, source: Source
) -> None:
    """Redis does nothing else meanwhile, so a thousand entries go at once and no more."""
    trimmer = _trimmer(redis, max_entries=10)
    for first in range(1, 1200, 300):
        await _append(appender, first, first + 299)

    await _trim(trimmer, redis, source, 1100)
    assert len(await _offsets(redis, source)) == 200

    await _trim(trimmer, redis, source, 1200)
    assert len(await _offsets(redis, source)) == 10


async def test_the_slowest_of_those_who_must_have_it_decides(redis: Redis, appender: Appender, source: Source) -> None:
    await _append(appender, 1, 50)
    required = [await _at(redis, source, 40), await _at(redis, source, 12)]

    await _trimmer(redis, max_entries=5).trim(source, required)

    assert await _offsets(redis, source) == list(range(13, 51))


@pytest.mark.parametrize("missing", [[], [BEGINNING], [BEGINNING, StreamId(99_999_999_999_999, 0)]])
async def test_nothing_goes_while_a_position_is_missing(
    redis: Redis, appender: Appender, source: Source, missing: list[StreamId]
) -> None:
    await _append(appender, 1, 50)

    assert await _trimmer(redis, max_entries=5).trim(source, missing) == UNTOUCHED
    assert len(await _offsets(redis, source)) == 50


async def test_nothing_goes_below_a_checkpoint_that_is_of_another_log(
    redis: Redis, appender: Appender, source: Source
) -> None:
    """It is beyond the newest entry, so nobody knows what of this log is in the views."""
    await _append(appender, 1, 50)

    trimmed = await _trimmer(redis, max_entries=5).trim(source, [StreamId(99_999_999_999_999, 0)])

    assert (trimmed.gone, trimmed.left) == (0, 45)


async def test_a_group_of_others_keeps_what_it_has_not_been_given(
    redis: Redis, appender: Appender, source: Source
) -> None:
    await _append(appender, 1, 50)
    await redis.xgroup_create(source.key, "mine", id="0")
    await redis.xreadgroup("mine", "me", {source.key: ">"}, count=10, noack=True)

    trimmed = await _trim(_trimmer(redis, max_entries=5), redis, source, 50)

    assert await _offsets(redis, source) == list(range(11, 51))
    assert trimmed == Trimmed(gone=10, left=35, held=35)


async def test_a_group_of_others_keeps_what_it_has_not_acknowledged(
    redis: Redis, appender: Appender, source: Source
) -> None:
    await _append(appender, 1, 50)
    await redis.xgroup_create(source.key, "mine", id="0")
    await redis.xreadgroup("mine", "me", {source.key: ">"}, count=30)
    entries = await read_entries(redis, source, after=BEGINNING, count=20)
    await redis.xack(source.key, "mine", *[str(entry.stream_id) for entry in entries])

    await _trim(_trimmer(redis, max_entries=5), redis, source, 50)

    assert await _offsets(redis, source) == list(range(21, 51))


async def test_a_group_that_is_further_than_the_views_holds_nothing(
    redis: Redis, appender: Appender, source: Source
) -> None:
    await _append(appender, 1, 50)
    await redis.xgroup_create(source.key, "mine", id="$")

    trimmed = await _trim(_trimmer(redis, max_entries=5), redis, source, 20)

    assert await _offsets(redis, source) == list(range(21, 51))
    assert trimmed.held == 0


async def test_groups_of_others_hold_back_no_more_than_their_limit(
    redis: Redis, appender: Appender, source: Source
) -> None:
    await _append(appender, 1, 50)
    await redis.xgroup_create(source.key, "mine", id="0")

    trimmed = await _trim(_trimmer(redis, max_entries=5, held_limit=20), redis, source, 50)

    assert await _offsets(redis, source) == list(range(26, 51))
    assert trimmed == Trimmed(gone=25, left=20, held=20, taken=25)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def test_a_group_without_consumers_is_waited_for_from_when_it_was_first_seen(
    redis: Redis, appender: Appender, source: Source, clock: Clock
) -> None:
    """Also by a projector that started only since then: what was seen is kept in Redis."""
    await _append(appender, 1, 50)
    await redis.xgroup_create(source.key, "mine", id="0")
    await _trim(_trimmer(redis, max_entries=5), redis, source, 50)

    clock.goes_on(599)
    await _trim(_trimmer(redis, max_entries=5), redis, source, 50)
    assert len(await _offsets(redis, source)) == 50

    clock.goes_on(2)
    trimmed = await _trim(_trimmer(redis, max_entries=5), redis, source, 50)
    assert len(await _offsets(redis, source)) == 5
    assert trimmed == Trimmed(gone=45, left_behind=frozenset({b"mine"}))


async def test_a_group_whose_consumer_reads_is_waited_for_however_long_ago_it_was_first_seen(
    redis: Redis, appender: Appender, source: Source, clock: Clock
) -> None:
    await _append(appender, 1, 50)
    await redis.xgroup_create(source.key, "mine", id="0")
    await _trim(_trimmer(redis, max_entries=5), redis, source, 50)
    clock.goes_on(10_000)
    await redis.xreadgroup("mine", "me", {source.key: ">"}, count=10)

    await _trim(_trimmer(redis, max_entries=5), redis, source, 50)

    assert len(await _offsets(redis, source)) == 50


async def test_a_silent_group_that_needs_nothing_of_what_goes_is_not_left_behind(
    redis: Redis, appender: Appender, source: Source, clock: Clock
) -> None:
    await _append(appender, 1, 50)
    await redis.xgroup_create(source.key, "mine", id=str(await _at(redis, source, 48)))
    await _trim(_trimmer(redis, max_entries=45), redis, source, 50)
    clock.goes_on(601)

    trimmed = await _trim(_trimmer(redis, max_entries=5), redis, source, 50)

    assert trimmed == Trimmed(gone=40)


async def test_what_was_seen_of_groups_that_are_gone_is_forgotten(
    redis: Redis, appender: Appender, source: Source
) -> None:
    await _append(appender, 1, 5)
    for name in ("mine", "yours"):
        await redis.xgroup_create(source.key, name, id="0")
    await _trim(_trimmer(redis, max_entries=1), redis, source, 5)
    await redis.xgroup_destroy(source.key, "mine")
    await _trim(_trimmer(redis, max_entries=1), redis, source, 5)

    assert await redis.hkeys(source.groups) == [b"yours"]
    assert 0 < await redis.ttl(source.groups) <= 1200


async def test_a_note_of_groups_that_holds_something_else_is_begun_anew(
    redis: Redis, appender: Appender, source: Source
) -> None:
    await _append(appender, 1, 5)
    await redis.xgroup_create(source.key, "mine", id="0")
    await redis.set(source.groups, "no hash")

    await _trim(_trimmer(redis, max_entries=1), redis, source, 5)

    assert await redis.hkeys(source.groups) == [b"mine"]


async def test_a_group_made_since_the_last_look_is_seen_at_the_next(
    redis: Redis, appender: Appender, source: Source, clock: Clock
) -> None:
    trimmer = _trimmer(redis, max_entries=30)
    await _append(appender, 1, 50)
    await _trim(trimmer, redis, source, 50)
    await redis.xgroup_create(source.key, "mine", id="0")
    await _append(appender, 51, 60)
    await _trim(trimmer, redis, source, 60)
    assert len(await _offsets(redis, source)) == 30

    clock.goes_on(5)
    await _append(appender, 61, 70)
    await _trim(trimmer, redis, source, 70)
    assert len(await _offsets(redis, source)) == 40
