"""`./run up`, `status` and `logs` as processes: the real services, on free ports."""

import asyncio
import socket
import subprocess
from pathlib import Path

import psutil

from tests.conftest import wait_until
from tests.standalone.conftest import lives
from tests.system.running import System, command, environment


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_the_system_starts_tells_where_it_is_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    async with System(tmp_path) as system:
        status, second, log = await asyncio.gather(
            asyncio.to_thread(run, tmp_path, "status"),
            asyncio.to_thread(run, tmp_path, "up"),
            asyncio.to_thread(run, tmp_path, "logs", "web"),
        )
        assert status.returncode == 0
        for name in ("redis", "temporal", "projector", "worker", "web"):
            assert f"{name} " in status.stdout
        assert "health healthy (redis healthy, temporal healthy; 0 streams)" in status.stdout
        assert second.returncode == 2
        assert (
            second.stderr == f"It already runs from this folder as process {system.state.pid}, at {system.address}.\n"
        )
        assert "Application startup complete" in log.stdout
        assert f"{system.address.replace('127.0.0.1', 'localhost')}/demo/streaming" in system.shown
        family = psutil.Process(system.state.pid).children(recursive=True)
        began = asyncio.get_running_loop().time()
        assert await system.stop() == 0
        assert asyncio.get_running_loop().time() - began < 5
        assert not any(lives(process) for process in family)
        assert (await asyncio.to_thread(run, tmp_path, "status")).returncode == 1


async def test_after_kill_9_everything_ends_and_can_be_started_again(tmp_path: Path) -> None:
    system = System(tmp_path)
    await system.start()
    family = psutil.Process(system.state.pid).children(recursive=True)
    assert len(family) >= 10
    system.kill()
    await wait_until(lambda: not any(lives(process) for process in family), message="some lived on")
    async with system:
        assert system.state.ready


def test_a_taken_port_is_one_sentence_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run(tmp_path, "up", PORT=str(port))
    assert result.returncode == 2
    assert result.stderr.startswith(f"Port {port} (pages and API) is taken by another program")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert not (tmp_path / ".pipai" / "redis").exists()


def test_a_wrong_setting_is_one_sentence(tmp_path: Path) -> None:
    result = run(tmp_path, "up", STREAM_PARTITIONS="none")
    assert result.returncode == 2
    assert result.stderr.startswith("STREAM_PARTITIONS: Input should be a valid integer")
    assert result.stderr.count("\n") == 1


def test_logs_of_an_unknown_service_name_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / ".pipai" / "logs").mkdir(parents=True)
    (tmp_path / ".pipai" / "logs" / "web.log").touch()
    result = run(tmp_path, "logs", "wbe")
    assert result.returncode == 2
    assert result.stderr == "There is no log of wbe here; there are: web.\n"
