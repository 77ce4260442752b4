"""How large the measures of the delivery bench are, and what they stand on."""

import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from bench.stand.processes import file_limit
from bench.stand.servers import Served, Start, find_nchan, nchan, ours, plain
from services.standalone.embedded import redis_server

_OTHER_FILES: Final = 200
"""What a process has open beside its viewers."""


@dataclass(frozen=True)
class Scale:
    """``some`` and ``many`` viewers, ``asleep`` ones beside them; ``seconds`` that are counted of a round."""

    some: int = 1_000
    many: int = 10_000
    asleep: int = 50
    topics: int = 100
    rounds: int = 5
    seconds: float = 1.6
    rate: int = 80
    whole_rate: int = 50


SHORT: Final = Scale(some=20, many=50, asleep=5, topics=10, rounds=1, seconds=0.2)


def allowed(scale: Scale) -> Scale:
    """The same with no more viewers than a process may have files here."""
    return replace(scale, many=min(scale.many, file_limit() - _OTHER_FILES))


class Stage(NamedTuple):
    """What runs: the servers, ours first, and the Redis that ours uses."""

    servers: Sequence[Served]
    redis: str


def everybody() -> list[Start]:
    """Ours, and the peers that are installed."""
    return [ours, plain, *([nchan] if find_nchan() else [])]


@contextmanager
def running(starts: Sequence[Start]) -> Generator[Stage]:
    """A stage with these servers, begun anew."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(redis_server(folder / "redis"))
        servers: list[Served] = []
        for start in starts:
            own = folder / start.__name__
            own.mkdir()
            servers.append(start(stack, own, redis.address))
        yield Stage(servers, redis.address)
