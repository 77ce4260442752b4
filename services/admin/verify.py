"""``pipai-admin verify``: are the views what the log says?"""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from core.runtime.tasks import together
from core.views.rebuild import Difference
from core.views.replace import MisfitViewError, MovingViewError
from pipai_contracts.ids import Topic
from services.admin.against import compare_with
from services.admin.archive import require_own_archive
from services.admin.command import DONE, FOUND, Command, Deployment
from services.admin.compare import MISFIT, Comparer, Comparison
from services.admin.progress import Progress
from services.admin.selection import selection_and, selection_of

MAX_SHOWN: Final = 200
"""Characters of a value in a line for people; --json has all of it."""

_WHY_NOT: Final[dict[type[Exception], str]] = {
    MovingViewError: "its view is committed too often to be caught",
    MisfitViewError: MISFIT,
}


def _add_arguments(parser: ArgumentParser) -> None:
    selection_and("--json", "one JSON object per line")(parser)
    parser.add_argument("--against", metavar="NAME", help="compare with the views of this sandbox, see replay")


async def _verify(deployment: Deployment, chosen: Namespace) -> int:
    """Compare every selected view with a fresh fold of the log, or with a sandbox; 1 when there is a difference."""
    await require_own_archive(deployment)
    if chosen.against is not None:
        return await _verify_against(deployment, chosen)
    comparer = Comparer(deployment, selection_of(chosen), with_feeds=False)
    counts = Counter[str]()
    progress = Progress("views looked at")
    async for topics in comparer.groups():
        counts.update(await together(_verify_one(comparer, topic, as_json=chosen.json) for topic in topics))
        progress.step(len(topics))
    _tell_summary(counts, as_json=chosen.json)
    return FOUND if counts["different"] else DONE


async def _verify_one(comparer: Comparer, topic: Topic, *, as_json: bool) -> str:
    try:
        comparison = await comparer.compare(topic)
    except (MovingViewError, MisfitViewError) as error:
        _tell_unverifiable(topic, _WHY_NOT[type(error)], as_json=as_json)
        return "unverifiable"
    _tell(comparison, as_json=as_json)
    return _verdict(comparison)


async def _verify_against(deployment: Deployment, chosen: Namespace) -> int:
    counts = Counter[str]()
    async for compared in compare_with(deployment, chosen.against, selection_of(chosen)):
        if compared.unverifiable is not None:
            counts["unverifiable"] += 1
            _tell_unverifiable(compared.topic, compared.unverifiable, as_json=chosen.json)
        else:
            counts["different" if compared.differences else "same"] += 1
            _tell_differences(compared.topic, compared.differences, "sandbox", as_json=chosen.json)
    _tell_summary(counts, as_json=chosen.json)
    return FOUND if counts["different"] else DONE


def _verdict(comparison: Comparison) -> str:
    if comparison.unverifiable is not None:
        return "unverifiable"
    return "different" if comparison.differences and not comparison.expired else "same"


def _tell(comparison: Comparison, *, as_json: bool) -> None:
    if comparison.unverifiable is not None:
        _tell_unverifiable(comparison.topic, comparison.unverifiable, as_json=as_json)
        return
    if not comparison.expired:
        _tell_differences(comparison.topic, comparison.differences, "fresh", as_json=as_json)


def _tell_differences(topic: Topic, differences: Sequence[Difference], other: str, *, as_json: bool) -> None:
    """The lines of a view that is not the same; ``other`` is what it was compared with."""
    for path, live, theirs in differences:
        if as_json:
            _line({"topic": topic.path, "path": path, "live": live, other: theirs})
        else:
            sys.stdout.write(f"{topic.path} {path}: live {_short(live)}, {other} {_short(theirs)}\n")


def _tell_unverifiable(topic: Topic, reason: str, *, as_json: bool) -> None:
    if as_json:
        _line({"topic": topic.path, "unverifiable": reason})
    else:
        sys.stderr.write(f"{topic.path} cannot be verified: {reason}\n")


def _tell_summary(counts: Counter[str], *, as_json: bool) -> None:
    told = {
        "verified": counts["same"] + counts["different"],
        "different": counts["different"],
        "unverifiable": counts["unverifiable"],
    }
    if as_json:
        _line(told)
    else:
        sys.stdout.write(", ".join(f"{name} {count}" for name, count in told.items()) + "\n")


def _line(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


VERIFY: Final = Command("verify", "compare the live views with a fresh fold of the log", _add_arguments, _verify)
