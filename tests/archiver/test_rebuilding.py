"""Views are compared with all of the history, and made again from it: the log may have been trimmed to nothing."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core.log.scan import keys_beginning, viewed_topics
from core.runtime.tasks import running
from core.views.folds import render
from pipai_contracts.ids import Topic
from tests.admin.conftest import Admin, admin
from tests.archiver.conftest import Archived, archived_deployment
from tests.conftest import wait_until
from tests.core.telling import notice, step
from tests.projector.random_run import random_run

__all__ = ["admin"]


@pytest.fixture(autouse=True)
def of_the_archive(tmp_path: Path, admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pipai-admin` reads the archive of the test; ``admin`` has none as a rule."""
    assert admin
    monkeypatch.setenv("ARCHIVE_URL", (tmp_path / "archive").as_uri())
    monkeypatch.setenv("ARCHIVE_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setattr("services.admin.quiet.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("services.admin.repartition._NOTICED_SECONDS", 0)


async def _busy_day(archived: Archived, seed: int = 1, count: int = 300) -> int:
    """Events published, projected and archived, and the log trimmed behind them; returns how many views there are."""
    async with archived.deployment.projecting(), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        await archived.deployment.publish(*random_run(seed, count))
        views = await archived.deployment.settled()
        await archived.settled()
    await trim(archived)
    return views


async def trim(archived: Archived) -> None:
    for source in archived.deployment.keys.sources():
        await archived.deployment.redis.xtrim(source.key, maxlen=0, approximate=False)


async def shown_views(archived: Archived) -> dict[Topic, tuple[Any, int, list[Any]]]:
    """Every view with its position and its feed."""
    deployment = archived.deployment
    found: dict[Topic, tuple[Any, int, list[Any]]] = {}
    async for topic in viewed_topics(deployment.redis, deployment.keys):
        stored = (await deployment.store.load([topic]))[topic]
        feed = await deployment.store.read_feed(topic, after=0, count=5000)
        found[topic] = render(stored.state), stored.pos, sorted(feed_item[1:] for feed_item in feed)
    return found


async def lose_views(archived: Archived) -> None:
    deployment = archived.deployment
    for what in ("view", "feed"):
        async for key in keys_beginning(deployment.redis, f"{deployment.keys.prefix}:{what}:"):
            await deployment.redis.unlink(key)


async def test_views_are_what_the_history_says_though_the_log_has_nothing_any_more(
    any_archived: Archived, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    views = await _busy_day(any_archived)
    assert await admin("verify", partitions=any_archived.deployment.keys.partitions) == 0
    assert f"verified {views}, different 0, unverifiable 0" in capsys.readouterr().out


@pytest.mark.parametrize("at_once", [1_000_000, 100])
async def test_lost_views_are_made_again_from_the_archive_alone(
    any_archived: Archived, admin: Admin, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All together, or in parts where they are too many."""
    monkeypatch.setattr("services.admin.compare._EVENTS_AT_ONCE", at_once)
    await _busy_day(any_archived)
    before = await shown_views(any_archived)
    await lose_views(any_archived)
    assert await admin("rebuild", partitions=any_archived.deployment.keys.partitions) == 0
    assert await shown_views(any_archived) == before


@pytest.mark.parametrize(("kind", "resource_id"), [("workflow", "id 1"), ("file", "id 2"), ("user", "ada")])
async def test_a_single_view_is_made_again_from_the_archive(
    archived: Archived, admin: Admin, kind: str, resource_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await _busy_day(archived)
    before = await shown_views(archived)
    topic = Topic.parse(f"default:{kind}:{resource_id}")
    await archived.deployment.redis.unlink(archived.deployment.keys.view(topic), archived.deployment.keys.feed(topic))
    assert await admin("rebuild", kind, "--id", resource_id) == 0
    assert "rebuilt 1, same 0" in capsys.readouterr().out
    assert (await shown_views(archived))[topic] == before[topic]
    assert await admin("verify", kind) == 0


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 2)])
async def test_it_makes_no_difference_in_how_many_partitions_the_past_was(  # noqa: PLR0913, PLR0917 - fixtures
    before: int,
    after: int,
    redis_url: str,
    key_prefix: str,
    tmp_path: Path,
    admin: Admin,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with archived_deployment(redis_url, key_prefix, tmp_path, before) as old:
        await _busy_day(old)
        assert await admin("repartition", "--to", str(after), "--yes", partitions=before) == 0
    async with archived_deployment(redis_url, key_prefix, tmp_path, after) as new:
        new.deployment.told = 1000  # ids of their own
        views = await _busy_day_of_both(new)
        capsys.readouterr()
        assert await admin("verify", partitions=after) == 0
        assert f"verified {views}, different 0, unverifiable 0" in capsys.readouterr().out


async def _busy_day_of_both(archived: Archived) -> int:
    """As `_busy_day`, but what views must be cannot be told from the log alone."""
    async with archived.deployment.projecting(), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        await archived.deployment.publish(*random_run(2, 300))
        await archived.settled()
    await trim(archived)
    return len(await shown_views(archived))


async def test_views_are_compared_while_events_come_and_the_log_is_trimmed(
    archived: Archived, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    await _busy_day(archived)
    stop = asyncio.Event()

    async def publish() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await archived.deployment.publish(
                step(number % 100, of=f"id {number % 8}").by("ada"), notice("n", of="bob")
            )

    async with archived.deployment.projecting(stream_max_entries=20), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        async with running(publish()):
            for _ in range(3):
                assert await admin("verify") == 0
            stop.set()
        await archived.projected()
    assert capsys.readouterr().out.count("different 0, unverifiable 0") == 3


async def test_a_segment_that_is_gone_is_told_and_its_views_are_left_alone(
    archived: Archived, admin: Admin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with archived.deployment.projecting(), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        for progress in (10, 20, 30):
            await archived.deployment.publish(step(progress).by("ada"))
            await archived.settled()
            await wait_until(lambda: not archived.spool.segments())
    await trim(archived)
    segments = sorted((tmp_path / "archive").rglob("*.parquet"))
    segments[1].unlink()
    before = await shown_views(archived)
    assert await admin("rebuild") == 1
    assert "is left alone" in capsys.readouterr().err
    assert await shown_views(archived) == before


async def test_an_archive_that_is_away_is_said_in_one_line(
    archived: Archived, admin: Admin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await _busy_day(archived, count=20)
    for segment in (tmp_path / "archive").rglob("*.parquet"):
        segment.write_bytes(b"half")
    assert await admin("verify") == 2
    assert capsys.readouterr().err.startswith("the archive cannot be read: ")
