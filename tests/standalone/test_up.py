"""`./run up`, `status` and `logs` as processes: the real services, on free ports."""

import asyncio
import socket
import subprocess
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

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
    settings = {"STREAM_PARTITIONS": "2", "LEASE_SECONDS": "1"}
    async with System(tmp_path, "--projectors", "3", **settings) as system:
        status, second, log = await asyncio.gather(
            asyncio.to_thread(run, tmp_path, "status"),
            asyncio.to_thread(run, tmp_path, "up"),
            asyncio.to_thread(run, tmp_path, "logs", "web"),
        )
        assert status.returncode == 0
        for name in ("redis", "temporal", "projector", "projector-2", "projector-3", "worker", "web"):
            assert f"{name} " in status.stdout
        assert "health healthy (redis healthy, temporal healthy; 0 streams)" in status.stdout
        assert second.returncode == 2
        assert (
            second.stderr == f"It already runs from this folder as process {system.state.pid}, at {system.address}.\n"
        )
        assert "Application startup complete" in log.stdout
        assert f"{system.address.replace('127.0.0.1', 'localhost')}/demo/streaming" in system.shown
        await _the_work_is_shared(system)
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


async def _the_work_is_shared(system: System) -> None:
    """Three projectors for two partitions, each with its own line and metrics."""
    projectors = [service for service in system.state.services if service.name.startswith("projector")]
    assert [service.name for service in projectors] == ["projector", "projector-2", "projector-3"]
    assert "3 share STREAM_PARTITIONS=2: 1 stands by" in system.shown

    def held() -> list[float]:
        return sorted(_metric(service.address, "pipai_held_partitions") for service in projectors)

    await wait_until(lambda: asyncio.to_thread(lambda: held() == [0, 1, 1]), 20)


def _metric(address: str, name: str) -> float:
    with urlopen(address, timeout=5) as answer:  # noqa: S310 - our own http:// address
        lines: list[str] = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


@pytest.mark.parametrize("number", ["0", "17", "many"])
def test_a_number_of_projectors_that_makes_no_sense_is_refused(tmp_path: Path, number: str) -> None:
    result = run(tmp_path, "up", "--projectors", number)
    assert result.returncode == 2
    assert "argument --projectors" in result.stderr
    assert not (tmp_path / ".pipai").exists()


def test_logs_of_an_unknown_service_name_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / ".pipai" / "logs").mkdir(parents=True)
    (tmp_path / ".pipai" / "logs" / "web.log").touch()
    result = run(tmp_path, "logs", "wbe")
    assert result.returncode == 2
    assert result.stderr == "There is no log of wbe here; there are: web.\n"
