"""``pipai-admin audit``: what operators did that the log does not say by itself."""

import json
import sys
from argparse import ArgumentParser, Namespace
from typing import Final

from core.log.audit import AuditLog
from services.admin.command import DONE, Command, Deployment
from services.admin.words import plain


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


async def _audit(deployment: Deployment, chosen: Namespace) -> int:
    """List all entries, oldest first."""
    async for one in AuditLog(deployment.redis, deployment.keys).entries():
        if chosen.json:
            told = {"id": str(one.entry_id), "time": one.entry_id.time, "action": one.action, "by": one.by}
            sys.stdout.write(json.dumps({**told, "what": one.what, "of": one.of}) + "\n")
        else:
            what = ", ".join(f"{name} {value}" for name, value in one.what.items())
            sys.stdout.write(f"{one.entry_id.time}  {plain(one.by)}  {plain(one.action)}: {plain(what)}\n")
    return DONE


AUDIT: Final = Command("audit", "what operators did that the log does not say by itself", _add_arguments, _audit)
