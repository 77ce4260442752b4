"""What an operator does to a deployment with an archive."""

from collections import Counter
from pathlib import Path

import pytest

from core.log.archive.wanted import Wanted
from tests.admin.conftest import Admin, admin
from tests.archiver.conftest import Archived, archived_deployment
from tests.conftest import wait_until
from tests.core.telling import ai, analysis, notice, step

__all__ = ["admin"]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing appends while a test repartitions, so nobody has to notice it."""
    monkeypatch.setattr("services.admin.quiet.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("services.admin.repartition._NOTICED_SECONDS", 0)


@pytest.fixture
def own_archive(admin: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pipai-admin` reads the archive of the test; ``admin`` has none as a rule."""
    assert admin
    monkeypatch.setenv("ARCHIVE_URL", (tmp_path / "archive").as_uri())
    monkeypatch.setenv("ARCHIVE_SPOOL", str(tmp_path / "spool"))


async def _publish(archived: Archived) -> None:
    """Twenty topics, some events each."""
    for number in range(20):
        name = f"t{number}"
        told = [step(10, of=name).by("ada"), ai("x", of=name), analysis(20, of=name), notice("n", of=name)]
        await archived.deployment.publish(*told)


@pytest.mark.usefixtures("own_archive")
@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (4, 2)])
async def test_events_are_found_once_after_a_repartition_and_not_archived_again(
    before: int, after: int, redis_url: str, key_prefix: str, tmp_path: Path, admin: Admin
) -> None:
    async with archived_deployment(redis_url, key_prefix, tmp_path, before) as old:
        async with old.deployment.projecting(), old.archiving():
            await _publish(old)
            await old.settled()
        assert await admin("repartition", "--to", str(after), "--yes", partitions=before) == 0
    assert await admin("verify", partitions=after) == 0, "it is the deployment's archive, under the old names"
    async with archived_deployment(redis_url, key_prefix, tmp_path, after) as new:
        new.deployment.told = 100  # ids of their own
        async with new.deployment.projecting(), new.archiving() as archiver:
            await wait_until(lambda: archiver.ready)
            await _publish(new)
            await new.settled()
        found = await new.history.find(Wanted("default"), limit=1000)
        assert len(found) == 160
        assert Counter(row.event_id for row in found) == dict.fromkeys([row.event_id for row in found], 1)
        for source in new.deployment.keys.sources():
            await new.deployment.redis.xtrim(source.key, maxlen=0, approximate=False)
        assert await new.history.find(Wanted("default"), limit=1000) == found


async def test_what_was_not_archived_before_a_repartition_is_archived_after_it(
    redis_url: str, key_prefix: str, tmp_path: Path, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    async with archived_deployment(redis_url, key_prefix, tmp_path, 2) as old:
        async with old.deployment.projecting(), old.archiving():
            await _publish(old)
            await old.settled()
            assert await admin("repartition", "--to", "4", "--yes", partitions=2) == 2
        assert "are at work" in capsys.readouterr().err
        async with old.deployment.projecting():
            await _publish(old)
            await old.projected()
        assert await admin("repartition", "--to", "4", "--yes", partitions=2) == 0
    async with archived_deployment(redis_url, key_prefix, tmp_path, 4) as new:
        async with new.deployment.projecting(), new.archiving():
            await new.settled()
        for source in new.deployment.keys.sources():
            await new.deployment.redis.xtrim(source.key, maxlen=0, approximate=False)
        found = await new.history.find(Wanted("default"), limit=1000)
    assert len({row.event_id for row in found}) == len(found) == 160


async def test_a_repartition_waits_for_the_archiver_to_stop(
    archived: Archived, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    async with archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        assert await admin("repartition", "--to", "4", "--yes") == 2
    assert "an archiver is at work" in capsys.readouterr().err


async def test_an_archive_that_was_given_up_holds_nothing_back(
    archived: Archived, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    async with archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        assert await admin("archive", "off") == 2
        assert "is at work: stop it" in capsys.readouterr().err
    async with archived.deployment.projecting(stream_max_entries=10):
        await _publish(archived)
        await archived.projected()
        await admin("archive", "status")
        told = capsys.readouterr().out
        assert "workflow:progress: archived up to 0-0, 20 events wait" in told

        assert await admin("archive", "off") == 0
        await admin("archive", "status")
        assert capsys.readouterr().out.count("not archived") == 4
        await wait_until(lambda: _is_short(archived), 20)


async def _is_short(archived: Archived) -> bool:
    return await archived.deployment.redis.xlen(archived.deployment.source().key) <= 10
