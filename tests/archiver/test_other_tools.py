"""The archive is read as it lies by tools that know nothing of us, with the queries of the guide."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from core.log.history import GivenUp
from pipai_contracts.ids import Topic
from tests.archiver.conftest import Archived
from tests.conftest import wait_until
from tests.core.telling import step
from tests.projector.random_run import random_run
from tests.system.running import environment

_GUIDE = (Path(__file__).resolve().parents[2] / "docs/guides/history.md").read_text(encoding="utf-8")
_ARCHIVE = ".pipai/archive/pip-ai"


def _query(language: str, folder: Path) -> str:
    """The query of the guide in this language, on another archive."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", _GUIDE, flags=re.MULTILINE | re.DOTALL)
    [query] = [block for block in blocks if _ARCHIVE in block and "spark" not in block]
    return query.replace(_ARCHIVE, str(folder))


def _by_duckdb(folder: Path) -> list[tuple[str, Any]]:
    with duckdb.connect() as database:
        return [(kind, json.loads(data)) for _, kind, data in database.execute(_query("sql", folder)).fetchall()]


def _by_pandas(folder: Path) -> list[tuple[str, Any]]:
    told = subprocess.run(
        [sys.executable, "-c", _query("python", folder)],
        capture_output=True, check=False, text=True, timeout=60, env=environment(),
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return [(row["type"], json.loads(row["data"])) for row in json.loads(told.stdout)]


@pytest.mark.parametrize("read", [_by_duckdb, _by_pandas])
async def test_a_topics_events_are_read_in_order_each_once(archived: Archived, tmp_path: Path, read: Any) -> None:
    deployment = archived.deployment
    async with deployment.projecting(), archived.archiving() as archiver:
        await wait_until(lambda: archiver.ready)
        for number in range(5):
            told = [step(at, f"step {number}", of="w1", message="“quoted”\n") for at in (10, 50, 90)]
            await deployment.publish(*random_run(number, 30), *told)
            await archived.settled()
        await wait_until(lambda: not archived.spool.segments())
    folder = tmp_path / "archive" / deployment.keys.prefix
    segment = next(folder.rglob("stream=workflow-progress/**/*.parquet"))
    copy = segment.with_name("copy.parquet")  # as after a crash: the same events in another segment
    copy.write_bytes(segment.read_bytes())
    published = [
        (record.envelope.event.type, record.envelope.event.model_dump(mode="json", exclude={"type"}, exclude_none=True))
        async for page in archived.history.without_archive.read_topic(Topic("default", "workflow", "w1"), GivenUp())
        for record in page
    ]
    assert len(published) == 15
    assert read(folder) == published
