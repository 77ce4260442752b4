"""The guide to debugging is followed to the letter, on a real system; only ports are other ones."""

import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from tests.conftest import wait_until
from tests.system.running import System, environment

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/guides/debugging-with-replay.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    async with System(tmp_path) as system:
        yield system


def _follow(system: System, block: str) -> str:
    """What the commands of a block show."""
    commands = block.replace("localhost:8000", system.address.removeprefix("http://"))
    commands = commands.replace("./run ", "python -m services.standalone ")
    shown = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=system.folder,
        env={**environment(), "PATH": f"{ROOT}/.venv/bin:/usr/bin:/bin"},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


async def _has(client: httpx2.AsyncClient, topic: str, pos: int) -> bool:
    answer = await client.get(f"/views/workflow/{topic}")
    return answer.status_code == 200 and answer.json()["cursor"].endswith(f".{pos}")


async def test_the_guide_leads_from_the_report_to_the_cause(system: System) -> None:
    told, history, view_and_diff, replay, export, repair, sandbox, verify = BLOCKS
    async with httpx2.AsyncClient(base_url=system.address, timeout=20) as client:
        _follow(system, told)
        await wait_until(lambda: _has(client, "report-7", 4), 20)

        lines = _follow(system, history).splitlines()
        assert [line.split()[3] for line in lines[1:]] == ["20", "80", "20", "100"]

        shown = _follow(system, view_and_diff)
        assert '"progress": 80' in shown
        assert re.search(r"^/progress: 80 → 20  by event 3: .* second-1$", shown, flags=re.MULTILINE)
        assert re.search(r"^/metadata/attempt: 1 → 2  by event 3: .* second-1$", shown, flags=re.MULTILINE)

        shown = _follow(system, replay)
        assert shown.count('"replay":true') == 5
        assert '"event":"disconnected"' in shown

        _follow(system, export)
        case = (system.folder / "case.jsonl").read_text()
        assert len(case.splitlines()) == 5
        assert '"ada' not in case

        shown = _follow(system, repair)
        await wait_until(lambda: _has(client, "report-8", 3), 20)
        shown = _follow(system, repair.splitlines()[-1])
        assert re.search(r"^/progress: 80 → 20  by event 2: ", shown, flags=re.MULTILINE)

        assert "different 0" in _follow(system, sandbox)
        assert "different 0, unverifiable 0" in _follow(system, verify)
