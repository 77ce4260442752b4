"""The guard: nothing outlives the one who started it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from services.standalone.guard import GRACE, guarded
from tests.conftest import wait_until
from tests.standalone.conftest import PATIENT, STUBBORN, lives

Guarded = Callable[[str], subprocess.Popen[bytes]]

OWNER = """
import subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def start() -> Iterator[Guarded]:
    """Starts Python code under a guard."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            guarded([sys.executable, "-c", code]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_the_exit_code_is_the_commands(start: Guarded) -> None:
    assert start("raise SystemExit(7)").wait(10) == 7


def test_a_command_ended_by_a_signal_is_told_as_shells_tell_it(start: Guarded) -> None:
    assert start("import os; os.kill(os.getpid(), 9)").wait(10) == 128 + 9


def test_a_command_that_does_not_exist_is_a_sentence() -> None:
    result = subprocess.run(guarded(["/nowhere/at-all"]), capture_output=True, check=False, timeout=10)
    assert result.returncode == 127
    assert result.stderr == b"/nowhere/at-all could not be started: No such file or directory\n"


async def test_signals_reach_the_command(start: Guarded) -> None:
    """The command says itself that it got SIGTERM, and ends as it wants to."""
    process = start(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        "print('here', flush=True)\n"
        "time.sleep(600)"
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert process.wait(10) == 5


@pytest.mark.parametrize(
    ("code", "its_child", "seconds"),
    [(PATIENT, PATIENT, GRACE * 0.8), (PATIENT, STUBBORN, GRACE * 0.8), (STUBBORN, PATIENT, GRACE + 5)],
    ids=["willing", "willing, its child ignores SIGTERM", "ignoring SIGTERM"],
)
async def test_a_command_ends_when_its_owner_is_killed(code: str, its_child: str, seconds: float) -> None:
    """Also its own children: the whole process group ends, without anybody left to ask for it."""
    family = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {its_child!r}])\n{code}"
    command = guarded([sys.executable, "-c", family])
    owner = subprocess.Popen([sys.executable, "-c", OWNER, *command], stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert owner.stdout is not None
    guard = psutil.Process(int(owner.stdout.readline()))
    owner.stdout.readline()
    owner.stdout.readline()  # both the command and its child are there
    processes = [guard, *guard.children(recursive=True)]
    assert len(processes) == 3
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    await wait_until(lambda: not any(lives(process) for process in processes), seconds, "some lived on")


async def test_a_group_can_be_ended_after_the_guard_was_killed(start: Guarded) -> None:
    process = start(PATIENT)
    assert process.stdout is not None
    process.stdout.readline()
    child = psutil.Process(process.pid).children()[0]
    process.kill()
    process.wait()
    os.killpg(process.pid, signal.SIGKILL)
    await wait_until(lambda: not lives(child))


def test_a_guard_sleeps_while_it_waits(start: Guarded) -> None:
    """One thread, asleep in the kernel: five guards must not show in the idle figure of the system."""
    process = start(PATIENT)
    assert process.stdout is not None
    process.stdout.readline()
    guard = psutil.Process(process.pid)
    before = guard.cpu_times()
    assert guard.num_threads() == 1
    assert guard.status() == psutil.STATUS_SLEEPING
    assert guard.cpu_times() == before


def test_the_guard_needs_only_the_standard_library() -> None:
    """It is started with -I -S, without site-packages, so it must not import anything else."""
    source = (Path(__file__).parents[2] / "services/standalone/guard.py").read_text()
    imported = {line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imported <= set(sys.stdlib_module_names)
