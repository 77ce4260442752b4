"""Dead letters as operators see them: events no view could take, and which of them are meant."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from pipai_contracts.times import Timestamp

MAX_LETTERS_NAMED = 200
"""Letters one request may name by their ids."""


def _check_stream_id(value: str) -> str:
    """Redis counts both parts of a stream id in 64 bits."""
    parts = value.split("-")
    if len(parts) == 2 and all(part.isascii() and part.isdecimal() and int(part) < 2**64 for part in parts):  # noqa: PLR2004
        return "-".join(str(int(part)) for part in parts)
    raise ValueError("must be a stream id, like 1735689600000-0")


LetterId = Annotated[str, Field(max_length=41), AfterValidator(_check_stream_id)]


class DeadLetter(BaseModel):
    r"""One event that could not be read or folded.

    ``source`` and ``id`` say where the letter stands, ``stream_id`` where its event stood in the source stream: the
    same id, unless the source stream had gone back. ``attempts`` counts how often the event was tried. ``type``,
    ``tenant``, ``topic``, ``event_id`` and ``user_id`` are null where the event does not say them in readable text.
    ``redriven_from`` is ``<source> <stream id>`` of the event this one repeats. ``fields`` is the event as it was
    stored, bytes that are no UTF-8 written as ``\xff``; lists of letters leave it out.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    id: str
    stream_id: str
    parked: Timestamp
    attempts: int
    error: str
    type: str | None = None
    tenant: str | None = None
    topic: str | None = None
    event_id: str | None = None
    user_id: str | None = None
    redriven_from: str | None = None
    fields: dict[str, str] | None = None


class DeadLetterPage(BaseModel):
    """Answer of ``GET /stream/dead-letters``; ``next`` is the ``after`` of the next page, null on the last.

    A page may have fewer letters than asked for, even none, and still not be the last.
    """

    model_config = ConfigDict(frozen=True)

    letters: list[DeadLetter]
    next: str | None = None


class LetterFilter(BaseModel):
    """Which letters: those that fit everything that is given.

    ``source`` is a source stream or one partition of it; ``error`` a part of the error's text, in any case.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Annotated[str | None, Field(max_length=100)] = None
    type: Annotated[str | None, Field(max_length=100)] = None
    topic: Annotated[str | None, Field(max_length=300)] = None
    error: Annotated[str | None, Field(min_length=1, max_length=500)] = None
    parked_after: Timestamp | None = None
    parked_before: Timestamp | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """Whether the letter is meant, its source aside."""
        return (
            (self.type is None or self.type == letter.type)
            and (self.topic is None or self.topic == letter.topic)
            and (self.error is None or self.error.lower() in letter.error.lower())
            and (self.parked_after is None or letter.parked > self.parked_after)
            and (self.parked_before is None or letter.parked < self.parked_before)
        )


class ChosenLetters(LetterFilter):
    """Body of ``POST /stream/dead-letters/redrive`` and ``…/purge``.

    Either ``ids`` of one ``source`` partition, or a filter, or ``all``: nothing at all is refused rather than taken
    for everything. At most ``limit`` letters are dealt with; the answer says whether more are left.
    """

    ids: Annotated[list[LetterId] | None, Field(min_length=1, max_length=MAX_LETTERS_NAMED)] = None
    all: bool = False
    limit: Annotated[int, Field(ge=1, le=10_000)] = 10_000

    @model_validator(mode="after")
    def _one_way_of_choosing(self) -> "ChosenLetters":
        given = {name for name in LetterFilter.model_fields if getattr(self, name) is not None}
        if self.ids is not None:
            if self.all or given != {"source"}:
                raise ValueError("ids need their source, and nothing else beside it")
        elif self.all == bool(given):
            raise ValueError("name letters by source and ids, or by a filter, or all of them with all")
        return self


class Redriven(BaseModel):
    """How many letters this request had appended again.

    ``refused`` stay where they are: their events cannot be copied, or are of a version this build cannot read.
    ``already``: another request redrove them in the last ten minutes. ``gone`` were not there any more.
    """

    model_config = ConfigDict(frozen=True)

    redriven: int = 0
    refused: int = 0
    gone: int = 0
    already: int = 0
    more: bool = False


class Purged(BaseModel):
    """How many letters were deleted; ``gone`` were not there any more."""

    model_config = ConfigDict(frozen=True)

    purged: int = 0
    gone: int = 0
    more: bool = False
