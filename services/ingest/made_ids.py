"""Ids for events whose producers gave none."""

import os
from random import Random
from typing import Final

_RANDOM: Final = Random()  # noqa: S311 - ids are no secrets
os.register_at_fork(after_in_child=_RANDOM.seed)  # else two processes would make the same


def made_id() -> str:
    """An id nobody else makes: 128 random bits, without asking the system for them each time."""
    return f"{_RANDOM.getrandbits(128):032x}"
