"""The commands of `./run` that need Python."""

import argparse
import sys
from pathlib import Path
from typing import Final

from core.runtime.exits import UNFIT
from core.runtime.loaded import expect_many_objects
from services.standalone.admin import admin
from services.standalone.checks import run_checks
from services.standalone.client import client
from services.standalone.settings_table import print_settings
from services.standalone.status import logs, status
from services.standalone.up import FOLDER, up

MOST_PROJECTORS: Final = 16
"""More would only wait for each other on one machine."""


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    if sys.platform == "win32":
        sys.stderr.write("On Windows this runs in WSL (Windows Subsystem for Linux), as on Linux.\n")
        return UNFIT
    parser = argparse.ArgumentParser(prog="./run")
    commands = parser.add_subparsers(dest="command", required=True)
    up_parser = commands.add_parser("up")
    up_parser.add_argument(
        "--projectors",
        type=int,
        default=1,
        choices=range(1, MOST_PROJECTORS + 1),
        metavar="N",
        help="projectors that share the partitions",
    )
    up_parser.add_argument(
        "--import", dest="file", type=Path, metavar="FILE", help="an exported history, as a system of its own"
    )
    commands.add_parser("status")
    commands.add_parser("settings")
    logs_parser = commands.add_parser("logs")
    logs_parser.add_argument("service", nargs="?")
    logs_parser.add_argument("-f", "--follow", action="store_true")
    if arguments[:1] == ["test"]:
        run_checks(arguments[1:])
    if arguments[:1] in (["pipai"], ["pipai-admin"]):
        expect_many_objects()
        program = client if arguments[0] == "pipai" else admin
        return program(FOLDER, arguments[1:])
    chosen = parser.parse_args(arguments)
    match chosen.command:
        case "up":
            return up(chosen.projectors, chosen.file)
        case "status":
            return status(FOLDER)
        case "settings":
            return print_settings()
        case _:
            return logs(FOLDER, chosen.service, follow=chosen.follow)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
