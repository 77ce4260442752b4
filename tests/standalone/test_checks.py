"""`./run test`: what this machine cannot run is named, and required where CI says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.standalone import checks
from services.standalone.checks import SUMMARY, Check, run_checks

ROOT = Path(__file__).parents[2]
NEEDS_NODE = "import pytest\n\n@pytest.mark.node\ndef test_with_node(): pass\n\ndef test_without(): pass\n"


def small_pytest(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a small test file with this repository's configuration and fixtures, on a PATH without any program."""
    (folder / "test_small.py").write_text(NEEDS_NODE)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml")]
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "PYTEST_ADDOPTS", SUMMARY}}
    return subprocess.run(
        [*command, "--rootdir", str(folder), str(folder / "test_small.py")],
        env={**environment, "PATH": str(folder), **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_tests_without_their_program_are_named_before_the_closing_line(tmp_path: Path) -> None:
    result = small_pytest(tmp_path, **{SUMMARY: "failed before the tests: ruff check"})
    *_, failed, left_out, closing = result.stdout.splitlines()
    assert result.returncode == 1
    assert failed == "failed before the tests: ruff check"
    assert left_out == "left out: 1 tests (no node)"
    assert "1 passed, 1 deselected" in closing


def test_in_ci_a_missing_program_fails_the_tests_that_need_it(tmp_path: Path) -> None:
    result = small_pytest(tmp_path, CI="true")
    assert result.returncode == 1
    assert "this test needs node, which is not on PATH; with CI=true it is required" in result.stdout
    assert "left out" not in result.stdout


@pytest.mark.parametrize(
    ("ci", "told"),
    [("", "left out: types (no no-such)"), ("true", "failed before the tests: types")],
    ids=["anywhere", "CI=true"],
)
def test_a_check_without_its_program_is_left_out_except_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str, told: str
) -> None:
    monkeypatch.setenv("CI", ci)
    check = Check("types", ("python", "-c", "raise SystemExit(1)"), needs="no-such")
    assert become_pytest(monkeypatch, check) == (["-m", "pytest"], told)


def test_arguments_run_pytest_alone_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    never = Check("never", ("python", "-c", "raise SystemExit(1)"))
    asked = ["tests/foo.py", "-k", "x"]
    assert become_pytest(monkeypatch, never, asked) == (["-m", "pytest", *asked], "")


class BecamePytestError(Exception):
    """In place of what would replace this process."""


def become_pytest(
    monkeypatch: pytest.MonkeyPatch, check: Check, arguments: list[str] | None = None
) -> tuple[list[str], str]:
    """The arguments Python would be run with after `check`, and what pytest would be told."""
    called: list[tuple[list[str], str]] = []

    def execve(_program: str, command: list[str], environment: dict[str, str]) -> None:
        called.append((command[1:], environment[SUMMARY]))
        raise BecamePytestError

    monkeypatch.setattr(checks.os, "execve", execve)
    monkeypatch.setattr(checks, "CHECKS", (check,))
    with pytest.raises(BecamePytestError):
        run_checks(arguments or [])
    return called[0]
