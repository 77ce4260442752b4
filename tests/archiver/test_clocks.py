"""A clock that jumps a year ahead, over midnight there, and is back after a restart: history keeps its order."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.log.archive import archive
from core.log.archive.archive import overlapping
from core.log.archive.parquet import Parquet
from core.log.archive.rows import Row
from core.log.archive.segment import Segment, day_of
from core.log.archive.spooled import Spooled
from core.log.archive.wanted import Place, Wanted
from core.log.keys import SOURCES
from core.log.reader import Logged
from pipai_contracts.record import StreamId
from services.archiver import writing
from services.archiver.compaction import Compactor
from services.standalone.embedded import Server, redis_server
from tests.archiver.conftest import Archived, archived_deployment
from tests.conftest import wait_until
from tests.core.telling import ai, analysis, notice, step

_BATCH = 24

_MIDNIGHT = datetime.combine(datetime.now(UTC).date() + timedelta(days=366), datetime.min.time(), UTC)
"""The end of the day that the clock jumps to."""

_AHEAD = int(_MIDNIGHT.timestamp()) * 1000


async def _publish(archived: Archived) -> None:
    told = [step(1, of="w1"), analysis(2, of="f1"), ai("x", of="w1"), notice("n"), step(2, of="w2"), ai("y", of="w2")]
    await archived.deployment.publish(*(told[number % len(told)] for number in range(_BATCH)))


async def _jump(archived: Archived, milliseconds: int) -> None:
    """Let every stream go on as if an event had come at this moment; Redis gives out no smaller ids from then on."""
    redis: Any = archived.deployment.redis
    for source in archived.deployment.keys.sources():
        if await redis.exists(source.key):
            await redis.execute_command("XSETID", source.key, f"{milliseconds}-0")


async def _forget_the_log(archived: Archived) -> None:
    for source in archived.deployment.keys.sources():
        await archived.deployment.redis.xtrim(source.key, maxlen=0, approximate=False)


async def _logged(archived: Archived) -> list[Logged]:
    """What the log has by itself."""
    history = archived.history.without_archive
    return [logged for source in archived.deployment.keys.sources() async for logged in history.read(source)]


async def _tell_the_story(archived: Archived, server: Server) -> list[Logged]:
    """Five batches; the last is in the log alone, the others are in the archive alone. Returns all of it."""
    async with archived.deployment.projecting():
        await _publish(archived)
        await _jump(archived, _AHEAD - 1)
        await _publish(archived)
        await _jump(archived, _AHEAD)
        await _publish(archived)
        await archived.projected()
    server.stop()
    server.start()  # this machine's clock is a year behind what the streams gave out
    async with archived.deployment.projecting(), archived.archiving():
        await _publish(archived)
        await archived.settled()
        await wait_until(lambda: not archived.spool.segments(), 20)
    logged = await _logged(archived)
    await _forget_the_log(archived)
    await _publish(archived)
    return [*logged, *await _logged(archived)]


async def _segments(archived: Archived) -> list[Segment]:
    store = archived.settings.open_store()
    return [segment for stream in SOURCES for segment in await store.segments(stream)]


async def _pages(archived: Archived, limit: int) -> list[Row]:
    rows: list[Row] = []
    place: Place | None = None
    while page := await archived.history.find(Wanted("default"), after=place, limit=limit):
        rows += page
        place = page[-1].place
    return rows


def _by_source(story: Sequence[Logged]) -> dict[str, list[StreamId]]:
    found: dict[str, list[StreamId]] = {}
    for logged in story:
        found.setdefault(logged.source.name, []).append(logged.entry.stream_id)
    return found


@pytest.mark.parametrize("partitions", [1, 4])
async def test_nothing_is_lost_or_out_of_order_when_the_clock_jumps_ahead_and_is_back_after_a_restart(
    tmp_path: Path, partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "ROWS", 7)
    monkeypatch.setattr(archive, "_FIRST", 1)
    monkeypatch.setattr(archive, "_MOST", 2)
    with redis_server(tmp_path / "redis") as server:
        async with archived_deployment(server.address, "clocks", tmp_path, partitions) as archived:
            story = await _tell_the_story(archived, server)
            assert len(story) == 5 * _BATCH
            ids = _by_source(story)
            assert max(max(ids.values())).milliseconds == _AHEAD, "from the jump on they rise by sequence only"

            assert _by_source(await archived.all_history()) == ids
            await _assert_read_from_anywhere(archived, ids)
            await _assert_found(archived, story)
            segments = await _segments(archived)
            _assert_each_is_in_one(segments, ids)

            await _bring_together(archived, tmp_path)
            fewer = await _segments(archived)
            assert len(fewer) == len({(one.source, day_of(one.first)) for one in segments}) < len(segments)
            _assert_each_is_in_one(fewer, ids)
            assert _by_source(await archived.all_history()) == ids
            await _assert_found(archived, story)


async def _assert_read_from_anywhere(archived: Archived, ids: dict[str, list[StreamId]]) -> None:
    for source in archived.deployment.keys.sources():
        given = ids.get(source.name, [])
        for number in range(0, len(given), 3):
            after, upto = given[number], given[-1 - number // 2]
            read = [one.entry.stream_id async for one in archived.history.read(source, after=after, upto=upto)]
            assert read == [stream_id for stream_id in given if after < stream_id <= upto]


async def _assert_found(archived: Archived, story: Sequence[Logged]) -> None:
    """All of it in order, in pages of any size, and by the time before, at and after the jump."""
    everything = await _pages(archived, 1000)
    assert [row.place for row in everything] == sorted({row.place for row in everything})
    assert {row.event_id for row in everything} == {logged.entry.fields[b"id"].decode() for logged in story}
    assert await _pages(archived, 7) == everything
    for moment in (_AHEAD - 24 * 3600 * 1000, _AHEAD - 1, _AHEAD, _AHEAD + 1):
        later = await archived.history.find(Wanted("default", since=moment), limit=1000)
        earlier = await archived.history.find(Wanted("default", until=moment), limit=1000)
        assert later == [row for row in everything if row.stream_ms >= moment]
        assert earlier == [row for row in everything if row.stream_ms < moment]


def _assert_each_is_in_one(segments: Sequence[Segment], ids: dict[str, list[StreamId]]) -> None:
    """Every archived entry is in one segment, which lies in the folder of its day."""
    for source, given in ids.items():
        own = [segment for segment in segments if segment.source == source]
        assert all(len(group) == 1 for group in overlapping(own))
        ends = max(segment.last for segment in own)
        for stream_id in given:
            having = [segment for segment in own if segment.first <= stream_id <= segment.last]
            assert len(having) == (stream_id <= ends)
            assert all(f"/day={day_of(stream_id).isoformat()}/" in segment.path for segment in having)
    days = {day_of(segment.first) for segment in segments}
    assert {_MIDNIGHT.date(), _MIDNIGHT.date() - timedelta(days=1)} < days


async def _bring_together(archived: Archived, folder: Path) -> None:
    """As an archiver does when all of these days are over."""
    parquet = Parquet(folder / "compacting")
    spooled = Spooled(archived.deployment.redis, archived.deployment.keys)
    compactor = Compactor(archived.settings.open_store(), spooled, parquet, folder / "compacting")
    await compactor.sweep(_MIDNIGHT.date() + timedelta(days=1))
    parquet.close()
