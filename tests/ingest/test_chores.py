"""Deleting old uploads, and going on through failures."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from core.runtime.storage import open_storage
from core.runtime.tasks import running
from services.ingest import janitor
from services.ingest.chores import repeat
from services.ingest.janitor import Janitor
from tests.conftest import wait_until
from tests.ingest.conftest import files_in

TTL = timedelta(hours=1)


def _files(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


async def test_uploads_are_deleted_when_their_time_is_over(tmp_path: Path) -> None:
    _files(tmp_path, ("documents/a", "documents/b", "another/c", "d"))
    moment = datetime.now(UTC)
    sweeper = Janitor(open_storage(tmp_path.as_uri()), TTL, now=lambda: moment)

    assert await sweeper.sweep() == 0
    moment += TTL - timedelta(minutes=1)
    assert await sweeper.sweep() == 0
    moment += timedelta(minutes=2)
    assert await sweeper.sweep() == 2
    assert {path.name for path in files_in(tmp_path)} == {"c", "d"}


async def test_one_sweep_deletes_a_bounded_number_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "MAX_PER_SWEEP", 2)
    _files(tmp_path, ("documents/a", "documents/b", "documents/c"))
    sweeper = Janitor(open_storage(tmp_path.as_uri()), TTL, now=lambda: datetime.now(UTC) + TTL + timedelta(minutes=1))
    assert [await sweeper.sweep() for _ in range(3)] == [2, 1, 0]


async def test_a_chore_goes_on_after_failures_and_says_each_change_once() -> None:
    answers = iter((None, OSError("away"), OSError("still away"), None, None))
    done: list[object] = []

    async def chore() -> None:
        answer = next(answers, None)
        done.append(answer)
        if answer is not None:
            raise answer

    with capture_logs() as lines:
        async with running(repeat("sweep", chore, 0.01)):
            await wait_until(lambda: len(done) > 5)
    assert [(line["event"], line.get("reason")) for line in lines] == [
        ("stream sweep fails and is tried again", "OSError: away"),
        ("stream sweep works again", None),
    ]


async def test_a_lost_cancellation_does_not_keep_chores_alive() -> None:
    """As Python 3.11 loses it when a write to Redis ends at the wrong moment."""
    lost: list[bool] = []

    async def chore() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if lost:
                raise
            lost.append(True)

    async with asyncio.timeout(10):
        async with running(repeat("sweep", chore, 60)):
            await asyncio.sleep(0)
    assert lost
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_pieces_of_uploads_whose_process_died_are_deleted_too(tmp_path: Path) -> None:
    _files(tmp_path, ("documents/a#1", "documents/b"))
    moment = datetime.now(UTC)
    sweeper = Janitor(open_storage(tmp_path.as_uri()), TTL, now=lambda: moment)

    await sweeper.sweep()
    assert {path.name for path in files_in(tmp_path)} == {"a#1", "b"}
    moment += TTL + timedelta(minutes=1)
    await sweeper.sweep()
    assert not files_in(tmp_path)
