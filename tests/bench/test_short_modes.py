"""Every measurement can be repeated: its short mode runs and prints its table. No figure is judged."""

import subprocess
import sys

import pytest

from tests.system.running import environment


@pytest.mark.parametrize("name", ["publish_to_sse"])
def test_the_short_mode_prints_its_table(name: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", "--short"],
        env=environment(),
        capture_output=True,
        check=True,
        text=True,
        timeout=100,
    ).stdout

    rows = [line for line in shown.splitlines() if line.startswith("| ")]
    assert len(rows) == 4
    assert rows[1].startswith("| ours")
