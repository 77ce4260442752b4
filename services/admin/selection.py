"""Which topics a command is about."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from pipai_contracts.ids import DEFAULT_TENANT, KINDS, Kind, Topic, check_id
from pipai_contracts.times import millis_of
from services.admin.command import RefusedError


@dataclass(frozen=True, slots=True)
class Selection:
    """All topics, those of a kind, or a single one."""

    kind: Kind | None = None
    topic: Topic | None = None

    def wants(self, topic: Topic) -> bool:
        """Whether the topic is one of them."""
        if self.topic is not None:
            return topic == self.topic
        return self.kind is None or topic.kind == self.kind


def selection_and(flag: str, what: str) -> Callable[[ArgumentParser], None]:
    """The arguments that name topics, and a flag of the command's own."""

    def add_arguments(parser: ArgumentParser) -> None:
        parser.add_argument("kind", nargs="?", choices=[*KINDS, "all"], default="all", help="views of this kind only")
        parser.add_argument("--id", help="only the view of this id; needs a kind")
        parser.add_argument("--tenant", default=DEFAULT_TENANT, help="whose the id is (default: %(default)s)")
        parser.add_argument(flag, action="store_true", help=what)

    return add_arguments


def selection_of(chosen: Namespace) -> Selection:
    """The topics that the arguments name.

    Raises:
        RefusedError: an id without a kind, or what is no id.
    """
    kind = None if chosen.kind == "all" else cast("Kind", chosen.kind)
    if chosen.id is None:
        return Selection(kind)
    if kind is None:
        raise RefusedError("--id needs a kind: workflow, file or user")
    try:
        return Selection(kind, Topic(chosen.tenant, kind, check_id(chosen.id)))
    except ValueError as error:
        raise RefusedError(f"--id {error}") from error


def moment(text: str) -> int:
    """The milliseconds since 1970 of an RFC 3339 time, as an argument.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        return millis_of(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
