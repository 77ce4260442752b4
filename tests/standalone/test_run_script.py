"""The script `run`, with a Python and a pip that only say what they were asked for."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import wait_until

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "cat", "cksum", "ln", "readlink", "rm", "mkdir", "sleep", "tee", "awk", "grep", "tail", "basename", "cp")

FAKE_PYTHON = """\
#!/bin/sh
# Stands in for python3 and for .venv/bin/python: keeps what it was asked for, and does the little that is looked at.
echo "$*" >>"$ASKED"
case "$*" in
"-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
*"--require-hashes"*)
    echo "Collecting first==1.0"
    [ ! -e slow ] || while [ -e slow ]; do sleep 0.05; done
    [ ! -e broken ] || { echo "no such package"; exit 1; } ;;
"-m services.standalone "*) echo "ran: $*" ;;
esac
"""

FAKE_UV = """\
#!/bin/sh
echo "uv $*" >>"$ASKED"
case "$*" in
"venv "*) mkdir -p .venv/bin && cp "${0%uv}python3" .venv/bin/python ;;
esac
"""


class Clone:
    """A folder with `run` and what it reads, and a PATH on which only its tools and the stand-in are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        (self.folder / "contracts").mkdir(parents=True)
        self.bin = folder / "bin"
        self.bin.mkdir()
        shutil.copy(ROOT / "run", self.folder / "run")
        (self.folder / "requirements.lock").write_text("first==1.0 \\\n    --hash=sha256:00\n")
        (self.folder / "contracts" / "pyproject.toml").touch()
        (self.folder / "clients" / "python").mkdir(parents=True)
        (self.folder / "clients" / "python" / "pyproject.toml").touch()
        for tool in (*TOOLS, "dirname"):
            found = shutil.which(tool)
            assert found
            (self.bin / tool).symlink_to(found)
        self.put("uname", "#!/bin/sh\necho Linux\n")
        self.put("python3", FAKE_PYTHON)
        self.asked = folder / "asked"
        self.asked.touch()

    def put(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": str(self.bin), "ASKED": str(self.asked)}

    @property
    def installations(self) -> int:
        return self.asked.read_text().count("--require-hashes")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / "run"), *arguments],
            env=self.environment,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_first_use_installs_then_it_only_runs(clone: Clone) -> None:
    first = clone.run("status")
    assert first.returncode == 0, first.stderr
    assert first.stdout == "ran: -m services.standalone status\n"
    assert "1/1 first==1.0" in first.stderr
    ours = "--editable ./contracts --editable ./clients/python --editable ."
    assert f"--no-build-isolation --no-deps {ours}" in clone.asked.read_text()
    second = clone.run("logs", "-f", "web")
    assert second.stdout == "ran: -m services.standalone logs -f web\n"
    assert second.stderr == ""
    assert clone.installations == 1


def test_a_changed_lock_is_installed_again(clone: Clone) -> None:
    clone.run("status")
    (clone.folder / "requirements.lock").write_text("first==1.1 \\\n    --hash=sha256:00\n")
    clone.run("status")
    clone.run("status")
    assert clone.installations == 2


def test_a_failed_installation_says_why_and_does_not_count(clone: Clone) -> None:
    """The next run begins from nothing, also when the first one could not tidy up."""
    broken = clone.folder / "broken"
    broken.touch()
    failed = clone.run("status")
    assert failed.returncode == 2
    assert failed.stderr.endswith(
        "no such package\nThe installation failed; its whole output is in .pipai/install.log.\n"
    )
    broken.unlink()
    (clone.folder / ".venv" / "half-installed").touch()
    assert clone.run("status").returncode == 0
    assert not (clone.folder / ".venv" / "half-installed").exists()


def test_a_folder_that_was_moved_is_installed_again(clone: Clone) -> None:
    """The programs in .venv name the folder they were installed for."""
    clone.run("status")
    clone.folder = clone.folder.rename(clone.folder.with_name("elsewhere"))
    assert clone.run("status").returncode == 0
    assert clone.installations == 2


async def test_two_at_once_install_once(clone: Clone) -> None:
    slow = clone.folder / "slow"
    slow.touch()
    both = [
        subprocess.Popen(  # noqa: ASYNC220
            [str(clone.folder / "run"), "status"],
            env=clone.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    await wait_until(lambda: clone.installations == 1)
    slow.unlink()
    answers = [process.communicate(timeout=30) for process in both]
    assert [out for out, _ in answers] == ["ran: -m services.standalone status\n"] * 2
    assert clone.installations == 1


def test_the_lock_of_an_installer_that_is_gone_is_taken_over(clone: Clone) -> None:
    (clone.folder / ".pipai").mkdir()
    gone = subprocess.Popen(["true"])
    gone.wait()
    (clone.folder / ".pipai" / "install.lock").symlink_to(str(gone.pid))
    assert clone.run("status").returncode == 0
    assert not (clone.folder / ".pipai" / "install.lock").is_symlink()


def test_without_a_python_one_sentence_says_which(clone: Clone) -> None:
    clone.put("python3", "#!/bin/sh\nexit 1\n")
    result = clone.run("up")
    assert result.returncode == 2
    assert result.stderr.endswith(
        "Python 3.11, 3.12, 3.13 or 3.14 is needed, and none is on PATH: install one of them.\n"
    )


def test_elsewhere_a_sentence_names_wsl(clone: Clone) -> None:
    clone.put("uname", "#!/bin/sh\necho MINGW64_NT-10.0\n")
    result = clone.run("up")
    assert result.returncode == 2
    assert result.stderr == "This runs on Linux and macOS; on Windows use WSL (Windows Subsystem for Linux).\n"


def test_uv_is_used_where_it_is(clone: Clone) -> None:
    clone.put("uv", FAKE_UV)
    assert clone.run("status").returncode == 0
    assert "uv pip install --python .venv/bin/python --require-hashes -r requirements.lock" in clone.asked.read_text()


def test_help_needs_no_installation(clone: Clone) -> None:
    assert "./run up" in clone.run("help").stdout
    assert "./run up" in clone.run().stdout
    unknown = clone.run("upp")
    assert unknown.returncode == 2
    assert "./run up" in unknown.stderr
    assert clone.installations == 0


def test_bench_names_what_there_is(clone: Clone) -> None:
    (clone.folder / "bench").mkdir()
    (clone.folder / "bench" / "latency.py").touch()
    result = clone.run("bench")
    assert result.returncode == 2
    assert result.stderr == "measurements:\n  latency\n"
