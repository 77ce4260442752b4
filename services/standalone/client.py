"""`./run pipai`: the users' program, on the system that runs here."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pipai.main import ADDRESS, main
from services.standalone.state import is_running, read_state

_PROGRAM: Final = "./run pipai"


def client(folder: Path, arguments: Sequence[str]) -> int:
    """Carry out a command of `pipai`, and return its exit code.

    Unless ``PIPAI_URL`` says otherwise it asks the system of ``folder``, on whatever port that is.
    """
    state = read_state(folder) if is_running(folder) else None
    if state is not None:
        os.environ.setdefault(ADDRESS, state.address)
    return main(arguments, _PROGRAM)
