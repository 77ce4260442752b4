"""The beginning of an archive is given up, and nobody who goes on notices: views go on from what they were."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from core.log.archive.archive import Archive
from core.log.archive.parquet import Parquet
from core.log.archive.segment import Segment, day_of
from core.log.archive.spool import Spool
from core.log.archive.spooled import Spooled
from core.log.archive.store import StoreAwayError
from core.log.history import GivenUp, History
from core.log.keys import SOURCES
from core.log.read import entries_of
from core.views.moments import AtPosition, AtTime, BeginningGoneError, NothingYetError
from core.views.past import Past
from core.views.refold import Refolder
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId
from services.archiver.retention import Retention
from tests.admin.conftest import Admin, admin
from tests.archiver.conftest import Archived
from tests.archiver.test_rebuilding import lose_views, of_the_archive, shown_views, trim
from tests.conftest import wait_until
from tests.core.telling import Told, step
from tests.projector.random_run import random_run

__all__ = ["admin", "of_the_archive"]

_DAY = 24 * 3600 * 1000
_OLD, _LATER = 10, 5
"""Days ago: the events that are to be given up, and those that stay."""

_KEPT = 7


@pytest.fixture(autouse=True)
def noticed_at_once(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    assert admin
    monkeypatch.setenv("VIEW_TTL", str(30 * _DAY // 1000))
    monkeypatch.setattr("services.archiver.retention.NOTICED_SECONDS", 0)
    monkeypatch.setattr("core.log.history._REMEMBERED", -1)


async def publish_on_days(archived: Archived, *days: tuple[int, Iterable[Told]]) -> None:
    """Have these events in the log as if they had been appended so many days ago; the projector has not seen them."""
    deployment = archived.deployment
    begun: list[tuple[int, int]] = []
    for days_ago, told in days:
        await deployment.publish(*told)
        seconds, micros = await deployment.redis.time()
        begun.append((int(seconds) * 1000 + int(micros) // 1000 + 1, days_ago))
        await wait_until(lambda: _is_behind(archived, begun[-1][0]))
    for source in deployment.keys.sources():
        entries = entries_of(cast("list[Any]", await deployment.redis.xrange(source.key)))
        await deployment.redis.delete(source.key)
        for entry in entries:
            at = entry.stream_id.milliseconds
            days_ago = next(days_ago for end, days_ago in begun if at < end)
            moved = StreamId(at - days_ago * _DAY, entry.stream_id.sequence)
            await deployment.redis.xadd(source.key, dict(entry.fields), id=str(moved))  # type: ignore[arg-type]


async def _is_behind(archived: Archived, milliseconds: int) -> bool:
    seconds, micros = await archived.deployment.redis.time()
    return int(seconds) * 1000 + int(micros) // 1000 > milliseconds


@asynccontextmanager
async def _retention(archived: Archived, days: int = _KEPT) -> AsyncGenerator[Retention]:
    store, spool = archived.settings.open_store(), archived.spool
    parquet = Parquet(spool.folder / "giving-up")
    archive = Archive(store, spool, parquet)
    yield Retention(archived.deployment.redis, archived.deployment.keys, archive, store, days=days)
    archive.close()


async def _segments(archived: Archived) -> list[Segment]:
    store = archived.settings.open_store()
    return [segment for stream in SOURCES for segment in await store.segments(stream)]


async def _project_and_archive(archived: Archived) -> None:
    async with archived.deployment.projecting(), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        await archived.settled()
        await nothing_waits(archived)


async def nothing_waits(archived: Archived) -> None:
    """Wait until nothing is on the archiver's own disk any more, and everybody knows it."""
    spooled = Spooled(archived.deployment.redis, archived.deployment.keys)

    async def empty() -> bool:
        return not await spooled.load() and not archived.spool.segments()

    await wait_until(empty, message="segments stay in the spool")


@pytest.fixture
async def two_ages(any_archived: Archived) -> Archived:
    """Events of two ages, in views and archived, and no longer in the log."""
    only_once = [step(50, "only once", of="only old")]
    await publish_on_days(
        any_archived, (_OLD, [*random_run(1, 200), *only_once]), (_LATER, [*random_run(2, 200), step(5, of="only new")])
    )
    await _project_and_archive(any_archived)
    await trim(any_archived)
    return any_archived


async def give_up_old(archived: Archived, **more: Any) -> None:
    async with _retention(archived, **more) as retention:
        await retention.sweep(datetime.now(UTC))


async def test_the_days_that_are_too_old_go_and_no_others(two_ages: Archived) -> None:
    before = {day_of(segment.first) for segment in await _segments(two_ages)}
    await give_up_old(two_ages)
    after = {day_of(segment.first) for segment in await _segments(two_ages)}
    kept_from = datetime.now(UTC).date() - timedelta(days=_KEPT)
    assert after == {day for day in before if day >= kept_from}
    assert before - after


async def test_views_that_go_on_are_proved_by_what_they_were_and_what_came_later(
    two_ages: Archived, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    views = len(await shown_views(two_ages))
    await give_up_old(two_ages)
    assert await admin("verify", partitions=two_ages.deployment.keys.partitions) == 0
    assert f"verified {views}, different 0, unverifiable 0" in capsys.readouterr().out


async def test_lost_views_are_made_again_from_what_they_were(two_ages: Archived, admin: Admin) -> None:
    before = await shown_views(two_ages)
    await give_up_old(two_ages)
    await lose_views(two_ages)
    assert await admin("rebuild", "all", partitions=two_ages.deployment.keys.partitions) == 0
    after = await shown_views(two_ages)
    assert {topic: view[:2] for topic, view in after.items()} == {topic: view[:2] for topic, view in before.items()}


async def test_giving_up_day_after_day_ends_as_giving_up_all_at_once(two_ages: Archived, admin: Admin) -> None:
    for days in (20, 9, 8, _KEPT, 3):
        await give_up_old(two_ages, days=days)
    assert await _segments(two_ages) == []
    before = await shown_views(two_ages)
    assert await admin("verify", partitions=two_ages.deployment.keys.partitions) == 0
    await lose_views(two_ages)
    assert await admin("rebuild", "all", partitions=two_ages.deployment.keys.partitions) == 0
    assert {topic: view[:2] for topic, view in (await shown_views(two_ages)).items()} == {
        topic: view[:2] for topic, view in before.items()
    }


async def test_what_neither_lives_nor_goes_on_is_gone(two_ages: Archived) -> None:
    await lose_views(two_ages)
    await give_up_old(two_ages)
    history = two_ages.history
    assert (await history.given_up(Topic("default", "workflow", "only old"))).base is None
    assert (await history.given_up(Topic("default", "workflow", "id 1"))).base is not None


async def test_the_past_is_shown_from_there_on_and_not_before(two_ages: Archived) -> None:
    deployment, topic = two_ages.deployment, Topic("default", "workflow", "id 1")
    past = Past(two_ages.history, deployment.store, deployment.keys, feed_length=1)
    last = (await past.at(topic, AtTime(2**45))).pos
    before = [(await past.at(topic, AtPosition(pos))).state for pos in range(1, last + 1)]
    await give_up_old(two_ages)
    base = (await two_ages.history.given_up(topic)).base
    assert base is not None
    assert 0 < base.pos < last
    after = [(await past.at(topic, AtPosition(pos))).state for pos in range(base.pos, last + 1)]
    assert after == before[base.pos - 1 :]
    for at in (AtPosition(base.pos - 1), AtTime(base.until - 2)):
        with pytest.raises(BeginningGoneError):
            await past.at(topic, at)


async def test_a_crash_while_bases_are_written_costs_nothing(
    two_ages: Archived, monkeypatch: pytest.MonkeyPatch, admin: Admin
) -> None:
    async def killed(*_: object) -> set[Topic]:
        raise ConnectionError("killed")

    segments = await _segments(two_ages)
    with monkeypatch.context() as broken:
        broken.setattr(Retention, "_going_on", killed)
        with pytest.raises(ConnectionError):
            await give_up_old(two_ages)
    assert await _segments(two_ages) == segments
    await give_up_old(two_ages)
    assert len(await _segments(two_ages)) < len(segments)
    assert await admin("verify", partitions=two_ages.deployment.keys.partitions) == 0


async def test_nothing_goes_before_everybody_begins_at_the_new_bases(
    two_ages: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments, now = await _segments(two_ages), 1000.0
    monkeypatch.setattr("services.archiver.retention.NOTICED_SECONDS", 300)
    monkeypatch.setattr("services.archiver.retention.time.monotonic", lambda: now)
    async with _retention(two_ages) as retention:
        await retention.sweep(datetime.now(UTC))
        assert await _segments(two_ages) == segments
        now += 299
        await retention.sweep(datetime.now(UTC))
        assert await _segments(two_ages) == segments
        now += 1
        await retention.sweep(datetime.now(UTC))
        assert len(await _segments(two_ages)) < len(segments)


async def test_a_reader_who_began_before_is_told_when_what_it_reads_goes(
    two_ages: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.log.history._PAGE", 2)
    reading = two_ages.history.read_topic(Topic("default", "workflow", "id 1"), GivenUp())
    await anext(reading)
    await give_up_old(two_ages)
    with pytest.raises(StoreAwayError):
        async for _ in reading:
            pass


async def test_a_view_is_not_folded_on_from_one_beginning_with_the_events_behind_another(
    two_ages: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archiver gives days up between the question for what a view was then and that for what came later."""
    topic, deployment = Topic("default", "workflow", "id 1"), two_ages.deployment
    before = (await deployment.store.load([topic]))[topic].pos
    await deployment.redis.unlink(deployment.keys.view(topic), deployment.keys.feed(topic))
    given_up = History.given_up
    monkeypatch.setattr("services.archiver.retention.NOTICED_SECONDS", 300)

    async def asked(history: History, topic: Topic) -> GivenUp:
        answer = await given_up(history, topic)
        await give_up_old(two_ages)
        return answer

    refolder = Refolder(deployment.redis, deployment.keys, two_ages.history, feed_length=1000, ttl=600)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(History, "given_up", asked)
        with pytest.raises(StoreAwayError):
            await refolder.refold([topic], whole=True)
    await refolder.refold([topic], whole=True)
    assert (await deployment.store.load([topic]))[topic].pos == before


async def test_what_is_not_in_the_archive_yet_keeps_its_day(any_archived: Archived) -> None:
    """The set would lack it, and what comes later would be folded on the wrong view."""
    archived = any_archived
    await publish_on_days(archived, (_OLD, random_run(1, 50)))
    await _project_and_archive(archived)
    source = archived.deployment.source()
    await archived.deployment.redis.incr(source.offset)
    segments = await _segments(archived)
    await give_up_old(archived)
    assert await _segments(archived) == segments


async def test_a_clock_that_is_ahead_costs_nothing(two_ages: Archived) -> None:
    segments = await _segments(two_ages)
    async with _retention(two_ages, days=400) as retention:
        await retention.sweep(datetime.now(UTC) + timedelta(days=4000))
    assert await _segments(two_ages) == segments


async def test_all_is_kept_where_nobody_says_otherwise(two_ages: Archived) -> None:
    segments = await _segments(two_ages)
    await give_up_old(two_ages, days=0)
    assert await _segments(two_ages) == segments


async def test_live_views_are_the_beginning_of_an_archive_that_is_switched_on_late(
    any_archived: Archived, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    archived, partitions = any_archived, any_archived.deployment.keys.partitions
    async with archived.deployment.projecting():
        await archived.deployment.publish(*random_run(1, 200))
        await archived.projected()
        await trim(archived)
        await archived.deployment.publish(*random_run(2, 50))
        await archived.projected()
    async with archived.deployment.projecting(), archived.archiving():
        await archived.deployment.publish(*random_run(3, 200))
        await archived.settled()
        await nothing_waits(archived)
    await trim(archived)
    views = await shown_views(archived)
    assert await admin("verify", partitions=partitions) == 0
    assert f"verified {len(views)}, different 0, unverifiable 0" in capsys.readouterr().out
    await lose_views(archived)
    assert await admin("rebuild", "all", partitions=partitions) == 0
    again = await shown_views(archived)
    assert {topic: view[:2] for topic, view in again.items()} == {topic: view[:2] for topic, view in views.items()}


async def test_an_archiver_gives_up_what_its_setting_says(two_ages: Archived) -> None:
    kept_from = datetime.now(UTC).date() - timedelta(days=_KEPT)

    async def oldest() -> date:
        return min(day_of(segment.first) for segment in await _segments(two_ages))

    async def given_up() -> bool:
        return await oldest() >= kept_from

    assert await oldest() < kept_from
    async with two_ages.archiving(archive_retention=_KEPT):
        await wait_until(given_up, 30)


async def test_nothing_goes_while_a_dead_archiver_has_some_of_those_days_whatever_it_has_besides(
    two_ages: Archived, tmp_path: Path
) -> None:
    dead, spooled = Spool(tmp_path / "dead"), Spooled(two_ages.deployment.redis, two_ages.deployment.keys)
    dead.claim()
    segments = sorted(await _segments(two_ages))
    of_one = [segment for segment in segments if segment.source == segments[0].source]
    for segment in of_one:
        await spooled.add(dead, segment)
    await give_up_old(two_ages)
    assert sorted(await _segments(two_ages)) == segments
    await spooled.settle(dead)
    await give_up_old(two_ages)
    assert len(await _segments(two_ages)) < len(segments)


async def test_a_topic_that_returns_has_what_only_its_base_tells_of(
    two_ages: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its view lived when its days were given up, and expired since."""
    monkeypatch.setattr("services.projector.returning._LOOK_EVERY", 0.05)
    await give_up_old(two_ages)
    await lose_views(two_ages)
    deployment, topic = two_ages.deployment, Topic("default", "workflow", "only old")

    async def is_whole() -> bool:
        return (await deployment.store.load([topic]))[topic].pos == 2

    async with deployment.projecting(**two_ages.settings.model_dump(include={"archive_url", "archive_spool"})):
        await deployment.publish(step(60, of="only old"))
        await wait_until(is_whole, 20, "the view has no beginning")


async def test_what_is_given_up_counts_no_more_though_its_files_are_still_there(
    two_ages: Archived, monkeypatch: pytest.MonkeyPatch, admin: Admin
) -> None:
    """Else a view made of them would be another when they have gone."""
    monkeypatch.setattr("services.archiver.retention.NOTICED_SECONDS", 300)
    deployment, topic, segments = (
        two_ages.deployment,
        Topic("default", "workflow", "only old"),
        await _segments(two_ages),
    )
    await lose_views(two_ages)
    await give_up_old(two_ages)
    assert await _segments(two_ages) == segments
    refolder = Refolder(deployment.redis, deployment.keys, two_ages.history, feed_length=1000, ttl=600)
    assert await refolder.refold([topic], whole=True) == 0
    past = Past(two_ages.history, deployment.store, deployment.keys, feed_length=1)
    with pytest.raises(NothingYetError):
        await past.at(topic, AtTime(2**45))
    assert await admin("rebuild", "all", partitions=deployment.keys.partitions) == 0
    before = await shown_views(two_ages)
    assert topic not in before

    await lose_views(two_ages)
    monkeypatch.setattr("services.archiver.retention.NOTICED_SECONDS", 0)
    await give_up_old(two_ages)
    assert len(await _segments(two_ages)) < len(segments)
    assert await admin("rebuild", "all", partitions=deployment.keys.partitions) == 0
    assert {one: view[:2] for one, view in (await shown_views(two_ages)).items()} == {
        one: view[:2] for one, view in before.items()
    }
