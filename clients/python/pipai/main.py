"""``pipai``: a deployment looked at from a terminal, over its HTTP API."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Final

from pipai.history import NonsenseError, add_export, add_history, export_history, show_history
from pipai.past import add_diff, add_replay, add_view, show_diff, show_replay, show_view
from pipai.service import Service, ServiceError

PROGRAM: Final = "pipai"
FAILED: Final = 2
INTERRUPTED: Final = 130
ADDRESS: Final = "PIPAI_URL"
"""Variable that says where the API is, unless ``--url`` does."""

DEFAULT_ADDRESS: Final = "http://localhost:8000"


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its words, its arguments, and what carries it out and returns the exit code."""

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    carry_out: Callable[[Service, argparse.Namespace], int]


COMMANDS: Final = (
    Command("history", "what happened", add_history, show_history),
    Command("history export", "the history of a topic as a file, for others to repeat", add_export, export_history),
    Command("view", "the state of a topic, now or then", add_view, show_view),
    Command("diff", "what changed between two moments, and by which event", add_diff, show_diff),
    Command("replay", "the events of a topic as its viewers got them, at another speed", add_replay, show_replay),
)


def main(arguments: Sequence[str], program: str = PROGRAM) -> int:
    """Carry out one command and return its exit code: 0 done, 2 it could not be done and stderr says why."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON lines and CSV are files for others, whatever the terminal takes
    chosen = _parser(program).parse_args(_joined(arguments))
    command = next(command for command in COMMANDS if command.name == chosen.command)
    address = chosen.url or os.environ.get(ADDRESS) or DEFAULT_ADDRESS
    try:
        with Service(address) as service:
            code = command.carry_out(service, chosen)
            sys.stdout.flush()
            return code
    except (ServiceError, NonsenseError) as error:
        sys.stderr.write(f"{error}\n")
        return FAILED
    except BrokenPipeError:  # as under head; without this Python would complain once more when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED


def run() -> int:
    """The entry point of the installed program."""
    return main(sys.argv[1:])


def _joined(arguments: Sequence[str]) -> list[str]:
    """The two words of a command as one."""
    first = " ".join(arguments[:2])
    return [first, *arguments[2:]] if any(command.name == first for command in COMMANDS) else list(arguments)


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        one = commands.add_parser(command.name, help=command.help, description=command.help)
        command.add_arguments(one)
        one.add_argument("--url", help=f"where the API is; {ADDRESS} unless told, else {DEFAULT_ADDRESS}")
    return parser
