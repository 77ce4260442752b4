"""What happened while a test ran, as JSON lines: who sent what, what was answered, applied, seen, told and broken.

Every event of a fault test carries its own event id as its ``message``, so that whoever sees it, anywhere, knows
which publish it came from. ``at`` is in seconds of one monotonic clock.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pipai_contracts.envelope import Envelope


class _Happening(BaseModel):
    model_config = ConfigDict(frozen=True)

    at: float = Field(default_factory=time.monotonic)


class Invoked(_Happening):
    """A producer sends an event; ``op`` numbers the attempts. No envelope: it is one that must be refused."""

    kind: Literal["invoked"] = "invoked"
    op: int
    event_id: str
    envelope: Envelope | None


class Answered(_Happening):
    """What the producer was answered: it is stored (ok), it is not (fail), nobody knows (info)."""

    kind: Literal["answered"] = "answered"
    op: int
    outcome: Literal["ok", "fail", "info"]
    stream: str = ""
    stream_id: str = ""
    offset: int = 0
    duplicate: bool = False


class Applied(_Happening):
    """An entry of the change feed: an event went into the view of ``topic``; ``change`` is the entry's number."""

    kind: Literal["applied"] = "applied"
    partition: int
    change: int
    topic: str
    epoch: str
    pos: int
    event: str
    stream_id: str
    data: str


class Generation(_Happening):
    """An entry of the change feed: the system told that data was lost."""

    kind: Literal["generation"] = "generation"
    partition: int
    change: int
    generation: int


class Rewound(_Happening):
    """The change feed went back: what was applied after ``change`` is no more."""

    kind: Literal["rewound"] = "rewound"
    partition: int
    change: int


class Connecting(_Happening):
    """A viewer asks for a topic, from a cursor on or (None) from the state on."""

    kind: Literal["connecting"] = "connecting"
    viewer: str
    topic: str
    cursor: str | None


class Connected(_Happening):
    """The answer: ``resumed`` goes on from the viewer's own cursor, else the state at ``cursor`` was sent.

    ``view``: its JSON, where there is one. ``stale``: it is from the memory of the api, because Redis is away.
    """

    kind: Literal["connected"] = "connected"
    viewer: str
    cursor: str
    resumed: bool
    stale: bool = False
    view: str | None = None


class Received(_Happening):
    """An event with a position came to the viewer."""

    kind: Literal["received"] = "received"
    viewer: str
    cursor: str
    event: str
    data: str


class Told(_Happening):
    """The viewer was told that positions jump, and shown the state there."""

    kind: Literal["told"] = "told"
    viewer: str
    reason: str
    cursor: str
    view: str | None = None


class Warned(_Happening):
    """The viewer was told of the stream itself: Redis is away (degraded), or back (recovered)."""

    kind: Literal["warned"] = "warned"
    viewer: str
    code: str


class Dismissed(_Happening):
    """The viewer was told that its stream ends here, and why."""

    kind: Literal["dismissed"] = "dismissed"
    viewer: str
    reason: str


class Slept(_Happening):
    """The viewer stops reading (begin), or goes on (end); its connection stays open."""

    kind: Literal["slept"] = "slept"
    viewer: str
    phase: Literal["begin", "end"]


class Fault(_Happening):
    """Something was broken (begin), or is whole again (end).

    ``loses``: Redis itself may have lost what it had acknowledged. ``hides``: no api reaches Redis meanwhile.
    """

    kind: Literal["fault"] = "fault"
    name: str
    phase: Literal["begin", "end"]
    loses: bool = False
    hides: bool = False


class Rest(_Happening):
    """A view when all was quiet at the end, rendered as JSON."""

    kind: Literal["rest"] = "rest"
    topic: str
    cursor: str
    view: str


class Kept(_Happening):
    """The stream ids a source stream still had at the end."""

    kind: Literal["kept"] = "kept"
    stream: str
    stream_ids: tuple[str, ...]


AnyHappening = Annotated[
    Invoked
    | Answered
    | Applied
    | Generation
    | Rewound
    | Connecting
    | Connected
    | Received
    | Told
    | Warned
    | Dismissed
    | Slept
    | Fault
    | Rest
    | Kept,
    Field(discriminator="kind"),
]
_any_happening: TypeAdapter[AnyHappening] = TypeAdapter(AnyHappening)


class History:
    """Happenings in the order they were noticed; ``with`` closes the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.happenings: list[AnyHappening] = []
        self._file = path.open("wb")

    def add(self, happening: AnyHappening) -> None:
        """Keep it, here and in the file."""
        self.happenings.append(happening)
        self._file.write(happening.__pydantic_serializer__.to_json(happening) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_history(path: Path) -> Sequence[AnyHappening]:
    """The happenings of a file.

    Raises:
        pydantic.ValidationError: a line is no happening.
    """
    return list(_lines(path))


def _lines(path: Path) -> Iterator[AnyHappening]:
    with path.open("rb") as lines:
        for line in lines:
            yield _any_happening.validate_json(line)
