"""The supervisor: order, restarts, and stopping."""

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from services.standalone import child as child_module
from services.standalone.child import UNFIT_ENDS, State
from services.standalone.supervisor import given_up
from tests.conftest import wait_until
from tests.standalone.conftest import PATIENT, STUBBORN, Start, lives, program


async def test_a_stage_starts_when_the_one_before_is_ready(supervise: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    running = supervise([program("first", PATIENT, gate.exists)], [program("second", PATIENT)])
    await wait_until(lambda: "first    | here" in running.shown)
    assert running.child("second").pid is None
    gate.touch()
    await running.ready.wait()
    assert running.child("second").state is State.READY


async def test_what_dies_is_started_again_and_it_is_said(supervise: Start) -> None:
    running = supervise([program("web", PATIENT)])
    await running.ready.wait()
    child = running.child("web")
    first = child.pid
    assert first
    os.kill(first, signal.SIGKILL)
    await wait_until(lambda: child.restarts == 1 and child.state is State.READY and child.pid != first)
    assert "web ended with code 137; it is started again in 0.2 s" in running.shown


async def test_a_killed_guard_leaves_no_second_copy_of_its_service(supervise: Start) -> None:
    running = supervise([program("web", PATIENT)])
    await running.ready.wait()
    child = running.child("web")
    assert child.pid
    service = psutil.Process(child.pid)
    os.kill(service.ppid(), signal.SIGKILL)
    await wait_until(lambda: child.restarts == 1 and child.state is State.READY)
    assert not lives(service)


async def test_pauses_between_restarts_grow(supervise: Start) -> None:
    running = supervise([program("web", "raise SystemExit(1)", lambda: False)])
    await wait_until(lambda: running.child("web").restarts == 3)
    for pause in ("0.2", "0.4", "0.8"):
        assert f"started again in {pause} s" in running.shown


async def test_wrong_settings_are_given_up_clearly(supervise: Start) -> None:
    """The others go on, and the start ends instead of waiting for what cannot come."""
    running = supervise(
        [program("wrong", "raise SystemExit(2)", lambda: False), program("right", PATIENT)],
    )
    await running.ready.wait()
    assert given_up(running.supervisor.children) == ["wrong"]
    assert running.child("wrong").restarts == UNFIT_ENDS - 1
    assert "wrong ended 5 times because of its settings; it is not started again" in running.shown
    assert running.child("right").state is State.READY


async def test_what_cannot_be_started_is_tried_again_and_said(
    supervise: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while the Python environment is being installed anew under a running system."""
    with monkeypatch.context() as broken:
        broken.setattr(child_module, "guarded", nowhere)
        running = supervise([program("web", PATIENT)])
        await wait_until(lambda: "web could not be started: No such file or directory" in running.shown)
    await running.ready.wait()
    assert running.child("web").state is State.READY


async def test_stopping_ends_all_within_five_seconds_last_stage_first(supervise: Start) -> None:
    tells = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(print('bye')))\n" + PATIENT
    running = supervise([program("redis", tells)], [program("deaf", STUBBORN), program("web", tells)])
    await running.ready.wait()
    processes = [psutil.Process(child.pid) for child in running.supervisor.children]
    await wait_until(lambda: running.shown.count("here") == 3)
    began = asyncio.get_running_loop().time()
    await running.stop()
    assert asyncio.get_running_loop().time() - began < 5
    assert not any(lives(process) for process in processes)
    assert running.shown.index("web      | bye") < running.shown.index("redis    | bye")
    assert {child.state for child in running.supervisor.children} == {State.STOPPED}


async def test_stopping_while_something_is_not_ready_ends_too(supervise: Start) -> None:
    running = supervise([program("never", PATIENT, lambda: False)], [program("next", PATIENT)])
    await wait_until(lambda: "here" in running.shown)
    await running.stop()
    assert not running.ready.is_set()
    assert running.shown.count("here") == 1
    assert running.child("next").state is State.STARTING  # and never stopped, because it was never run


async def test_log_lines_carry_their_service_and_are_kept(supervise: Start) -> None:
    running = supervise([program("web", "import sys; print('out'); print('err', file=sys.stderr); " + PATIENT)])
    await wait_until(lambda: "web      | here" in running.shown)
    assert "web      | out" in running.shown
    assert "web      | err" in running.shown
    assert "\x1b" not in running.shown
    await running.stop()
    assert (running.folder / "web.log").read_text() == "out\nerr\nhere\n"
    assert "web       here" in (running.folder / "all.log").read_text()


async def test_an_endless_line_is_cut_and_never_grows_in_memory(supervise: Start) -> None:
    running = supervise([program("web", "print('x' * 300_000, flush=True); " + PATIENT)])
    await wait_until(lambda: "here" in running.shown)
    lines = [line for line in running.shown.splitlines() if "xxx" in line]
    assert len(lines) > 1
    assert sum(line.count("x") for line in lines) == 300_000
    assert max(len(line) for line in lines) <= 2 * 64 * 1024 + 20


def nowhere(_command: list[str]) -> list[str]:
    return ["/nowhere/at-all"]
