"""Who looks into another archive than the deployment's is told so, and not shown what little it has as all there is."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from services.api.settings import ApiSettings
from tests.admin.conftest import Admin, admin
from tests.api.conftest import serving
from tests.archiver.conftest import Archived
from tests.archiver.test_retention import nothing_waits
from tests.conftest import wait_until
from tests.core.telling import step

__all__ = ["admin"]

_COMMANDS = [
    ("verify",),
    ("verify", "--against", "try1"),
    ("rebuild", "all"),
    ("republish", "--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z"),
    ("replay", "--into", "try1", "--once"),
    ("erase", "ada", "--confirm", "erase user ada"),
]
_SAID = "the archive here is not the deployment's"


@pytest.fixture
async def old_copy(archived: Archived, tmp_path: Path) -> dict[str, str]:
    """Where an archive is that was left behind: it has the first of two segments."""
    kept = tmp_path / "archive"
    async with archived.deployment.projecting(), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        await archived.deployment.publish(step(10, of="w").by("ada"))
        await archived.settled()
        await nothing_waits(archived)
        [first] = kept.rglob("*.parquet")
        await archived.deployment.publish(step(20, of="w").by("ada"))
        await archived.settled()
        await nothing_waits(archived)
    copy = tmp_path / "old" / first.relative_to(kept)
    copy.parent.mkdir(parents=True)
    copy.write_bytes(first.read_bytes())
    return {"ARCHIVE_URL": (tmp_path / "old").as_uri(), "ARCHIVE_SPOOL": str(tmp_path / "no spool")}


async def _dump(archived: Archived) -> list[tuple[bytes, bytes | None]]:
    redis = cast("Any", archived.deployment.redis)
    pattern = f"{archived.deployment.keys.prefix}*"
    return sorted([(key, await redis.dump(key)) async for key in redis.scan_iter(pattern)])


@pytest.mark.parametrize("command", _COMMANDS, ids=" ".join)
async def test_a_command_that_goes_by_the_whole_history_does_nothing(
    command: tuple[str, ...],
    archived: Archived,
    old_copy: dict[str, str],
    admin: Admin,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in old_copy.items():
        monkeypatch.setenv(name, value)
    before = await _dump(archived)
    assert await admin(*command) == 2
    told = capsys.readouterr()
    assert "nothing was done: this archive is not the deployment's, it lacks" in told.err
    assert "workflow:progress" in told.err
    assert told.out == ""
    assert await _dump(archived) == before


@pytest.mark.usefixtures("old_copy")
async def test_a_user_is_not_erased_by_who_does_not_say_where_the_archive_is(
    archived: Archived, admin: Admin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARCHIVE_URL", "off")
    before = await _dump(archived)
    assert await admin("erase", "ada", "--confirm", "erase user ada") == 2
    assert "ARCHIVE_URL does not say where" in capsys.readouterr().err
    assert await _dump(archived) == before
    assert await admin("verify") == 0, "who switches it off goes by the log"


@pytest.mark.usefixtures("old_copy")
async def test_its_own_is_known_though_segments_wait_on_the_disk(
    archived: Archived, admin: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIVE_URL", (tmp_path / "archive").as_uri())
    monkeypatch.setenv("ARCHIVE_SPOOL", str(tmp_path / "spool"))
    assert await admin("verify") == 0
    store = tmp_path / "archive" / archived.deployment.keys.prefix
    newest = max(store.rglob("*.parquet"))
    newest.rename(archived.spool.folder / newest.relative_to(store))
    assert await admin("verify") == 0


@pytest.mark.usefixtures("old_copy")
async def test_one_that_was_lost_is_begun_anew(
    archived: Archived,
    admin: Admin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ARCHIVE_URL", (tmp_path / "archive").as_uri())
    monkeypatch.setenv("ARCHIVE_SPOOL", str(tmp_path / "spool"))
    await archived.deployment.redis.xtrim(archived.deployment.source().key, maxlen=0, approximate=False)
    shutil.rmtree(tmp_path / "archive")
    assert await admin("verify") == 2
    assert await admin("archive", "off") == 0
    capsys.readouterr()
    async with archived.deployment.projecting(), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        assert await admin("verify") == 0
        await archived.deployment.publish(step(30, of="w").by("ada"))
        await archived.settled()
        await nothing_waits(archived)
    assert await admin("verify") == 0
    assert "verified 2, different 0, unverifiable 0" in capsys.readouterr().out


async def test_an_api_says_so_when_it_begins(
    archived: Archived, old_copy: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"ARCHIVE_URL": (tmp_path / "archive").as_uri(), "ARCHIVE_SPOOL": str(tmp_path / "spool")}
    async with _asked(archived, own):
        pass
    assert _SAID not in capsys.readouterr().out
    told = ""

    def is_told() -> bool:
        nonlocal told
        told += capsys.readouterr().out
        return _SAID in told

    async with _asked(archived, old_copy):
        await wait_until(is_told)
    assert "workflow:progress" in told


@asynccontextmanager
async def _asked(archived: Archived, places: dict[str, str]) -> AsyncGenerator[None]:
    """An api with its archive there, once it has been asked for the history."""
    given: dict[str, Any] = archived.settings.model_dump(include={"redis_url", "key_prefix"})
    lower = {name.lower(): value for name, value in places.items()}
    async with serving(ApiSettings.model_validate({**given, **lower, "stream_block_time": 200})) as api:
        await wait_until(api.ready, 20)
        assert (await api.client.get("/history/events")).status_code == 200
        yield
