"""`./run test`: every check of the repository, then every test."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

SUMMARY: Final = "CHECKS_SUMMARY"
"""Variable that tells pytest what to print before its closing line, so that this line stays the last. A line that
begins with `FAILED` makes the run fail."""


@dataclass(frozen=True)
class Check:
    """A program of this Python environment; `needs` names one that has to be on PATH for it."""

    name: str
    command: tuple[str, ...]
    needs: str | None = None


CHECKS: Final = (
    Check("ruff check", ("ruff", "check", "--quiet")),
    Check("ruff format", ("ruff", "format", "--check", "--quiet")),
    Check("import-linter", ("lint-imports",)),
    Check("schema drift", ("python", "-m", "pipai_contracts.schema", "--check")),
    Check("pyright", ("pyright",), needs="node"),
)

LEFT_OUT: Final = "left out: "
FAILED: Final = "failed before the tests: "


def run_checks(pytest_arguments: list[str]) -> NoReturn:
    """Run all checks, then become pytest, which fails too when a check did; with arguments only pytest, with these."""
    failed: list[str] = []
    left_out: list[str] = []
    for check in () if pytest_arguments else CHECKS:
        if check.needs and shutil.which(check.needs) is None and not required():
            left_out.append(f"{check.name} (no {check.needs})")
        elif not _passes(check):
            failed.append(check.name)
    summary = [f"{LEFT_OUT}{', '.join(left_out)}"] if left_out else []
    summary += [f"{FAILED}{', '.join(failed)}"] if failed else []
    environment = {**os.environ, SUMMARY: "\n".join(summary)}
    os.execve(sys.executable, [sys.executable, "-m", "pytest", *pytest_arguments], environment)  # noqa: S606


def required() -> bool:
    """Whether nothing may be left out: CI=true."""
    return os.environ.get("CI", "").lower() in {"1", "true"}


def _passes(check: Check) -> bool:
    began = time.monotonic()
    sys.stdout.write(f"{check.name} … ")
    sys.stdout.flush()
    program = Path(sys.executable).with_name(check.command[0])
    result = subprocess.run([program, *check.command[1:]], capture_output=True, text=True, check=False)  # noqa: S603
    passed = result.returncode == 0
    sys.stdout.write(f"{'ok' if passed else 'FAILED'} ({time.monotonic() - began:.1f} s)\n")
    if not passed:
        sys.stdout.write(f"{result.stdout}{result.stderr}\n")
    sys.stdout.flush()
    return passed
