"""Every measurement can be repeated: its short mode runs and prints its table. No figure is judged."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.stand.servers import find_nchan
from tests.system.running import environment

ROOT = Path(__file__).resolve().parents[2]
ROWS = {
    "publish_to_sse": 3,
    "projector": 3,
    "publish_to_changes": 2,
    "known_workflows": 2,
    "idle_cost": 4,
    "archive": 5,
    "rebuild": 2,
    "user_bound": 3,
    "delivery": 39 if find_nchan() else 32,
    "append": 11 if shutil.which("redis-benchmark") else 7,
}


def test_what_is_listed_are_measurements_each_with_a_short_mode() -> None:
    shown = subprocess.run([ROOT / "run", "bench"], capture_output=True, check=False, text=True).stderr
    assert set(shown.split()) - {"measurements:"} == ROWS.keys()


@pytest.mark.parametrize(("name", "rows"), ROWS.items())
def test_the_short_mode_prints_its_table(name: str, rows: int) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", "--short"],
        env=environment(),
        capture_output=True,
        check=True,
        text=True,
        timeout=100,
    ).stdout

    table = [line for line in shown.splitlines() if line.startswith("| ")]
    assert len(table) == 1 + rows
