"""How many files a process may have open."""

import resource
import subprocess
import sys

import pytest

from core.runtime.files import allow_many_files, max_open_files

_RAISE = """
import resource
from core.runtime.files import allow_many_files, max_open_files
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
assert max_open_files() == 256
allow_many_files()
print(max_open_files() >= min(hard % 2**31, 10_240))
"""


def test_a_process_may_open_as_many_as_the_system_lets_it() -> None:
    told = subprocess.run([sys.executable, "-c", _RAISE], capture_output=True, text=True, check=True, timeout=30)
    assert told.stdout == "True\n"


@pytest.mark.parametrize(
    ("soft", "given", "then"),
    [
        (256, 65_536, 65_536),
        (256, 20_000, 10_240),
        (20_000, 30_000, 20_000),
        (256, 1_000, 256),
        (resource.RLIM_INFINITY, 0, 2**31),
    ],
)
def test_where_the_system_refuses_what_it_names_less_is_asked_for_and_never_less_than_before(
    monkeypatch: pytest.MonkeyPatch, soft: int, given: int, then: int
) -> None:
    limits = [(soft, resource.RLIM_INFINITY)]

    def getrlimit(_: int) -> tuple[int, int]:
        return limits[0]

    def setrlimit(_: int, asked: tuple[int, int]) -> None:
        if asked[0] == resource.RLIM_INFINITY or asked[0] > given:
            raise ValueError("not allowed to exceed maximum limit")
        limits[0] = asked

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    allow_many_files()
    assert max_open_files() == then
