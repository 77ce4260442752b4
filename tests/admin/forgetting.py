"""A user who is to be forgotten: what they did, and finding what is left of it."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest

from core.log.scan import keys_beginning
from tests.archiver.conftest import Archived
from tests.conftest import wait_until
from tests.core.telling import Told, ai, analysis, notice, step
from tests.projector.random_run import random_run

USER = "carol-who-leaves"
MARK = "what carol wrote"
WORDS = f"erase user {USER}"


@pytest.fixture(autouse=True)
def documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STORAGE_URL", (tmp_path / "documents").as_uri())
    return (tmp_path / "documents").as_uri()


def carols() -> list[Told]:
    """Events of a workflow, a file and the user; the first of the workflow before anybody said whose it is."""
    return [
        step(10, MARK, of="carols"),
        *(step(at, MARK, of="carols").by(USER) for at in (20, 30)),
        ai(MARK, of="carols").by(USER),
        analysis(50, MARK, of="carolsfile", result={"text": MARK}).by(USER),
        notice(MARK, of=USER),
    ]


@asynccontextmanager
async def at_work(archived: Archived) -> AsyncGenerator[None]:
    async with archived.deployment.projecting(), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        yield


async def publish_all(archived: Archived) -> None:
    others = list(random_run(1, 200))
    await archived.deployment.publish(*others[:100], *carols(), *others[100:])
    await archived.settled()


async def found_in_redis(archived: Archived) -> list[str]:
    """Keys with anything of the user's in their name or content."""
    deployment, found = archived.deployment, list[str]()
    known = {deployment.keys.tombstones, deployment.keys.erased, deployment.keys.audit}
    async for key in keys_beginning(deployment.redis, ""):
        if deployment.keys.prefix in key and key not in known:
            content = await _content(archived, key)
            found += [key for text in (MARK, USER, "carols") if text in content]
    return found


async def _content(archived: Archived, key: str) -> str:
    redis = cast("Any", archived.deployment.redis)
    readers = {
        b"stream": lambda: redis.xrange(key),
        b"hash": lambda: redis.hgetall(key),
        b"string": lambda: redis.get(key),
        b"zset": lambda: redis.zrange(key, 0, -1),
        b"list": lambda: redis.lrange(key, 0, -1),
    }
    read = readers.get(await redis.type(key))
    return f"{key!r} {await read()}" if read is not None else ""  # it expired meanwhile


def found_in_files(folder: Path) -> list[str]:
    """Parquet files with anything of the user's."""
    found = list[str]()
    for file in folder.rglob("*.parquet"):
        with duckdb.connect() as database:
            rows = database.execute("SELECT * FROM read_parquet(?, hive_partitioning = false)", [str(file)]).fetchall()
        if any(text in str(rows) for text in (MARK, USER, "carols")):
            found.append(file.name)
    return found


def report_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What the command said; the services log to the same place."""
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return json.loads(line)
