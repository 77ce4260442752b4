"""``pipai-admin rebuild``: fold the log again, and replace the views that differ, while traffic flows."""

import asyncio
import random
import sys
from argparse import Namespace
from collections import Counter
from typing import Final, Literal

from core.runtime.tasks import together
from core.views.replace import MisfitViewError, MovingViewError, Replacement
from pipai_contracts.ids import Topic
from services.admin.alone import StillAlone, alone
from services.admin.archive import require_own_archive
from services.admin.command import DONE, FOUND, Command, Deployment
from services.admin.compare import MISFIT, Comparer
from services.admin.progress import Progress
from services.admin.selection import selection_and, selection_of

_TRIES: Final = 50
"""Times a view is folded and compared anew because it was committed meanwhile."""

Verdict = Literal["rebuilt", "same", "unverifiable", "moved"]


_ADD_ARGUMENTS: Final = selection_and("--dry-run", "say what would be rebuilt, change nothing")


async def _rebuild(deployment: Deployment, chosen: Namespace) -> int:
    """Replace every selected view that differs from its log; 1 when the log cannot prove one, or one kept moving."""
    await require_own_archive(deployment)
    if chosen.dry_run:
        return await _rebuild_selected(deployment, chosen, None)
    async with alone(deployment.redis, deployment.keys, "rebuild") as still_alone:
        return await _rebuild_selected(deployment, chosen, still_alone)


async def _rebuild_selected(deployment: Deployment, chosen: Namespace, still_alone: StillAlone | None) -> int:
    comparer = Comparer(deployment, selection_of(chosen), with_feeds=not chosen.dry_run)
    counts = Counter[Verdict]()
    progress = Progress("views looked at")
    async for topics in comparer.groups():
        counts.update(await together(_rebuild_one(comparer, topic, still_alone) for topic in topics))
        progress.step(len(topics))
    would = "would be " if chosen.dry_run else ""
    sys.stdout.write(
        f"{would}rebuilt {counts['rebuilt']}, same {counts['same']}, unverifiable {counts['unverifiable']}, "
        f"moved {counts['moved']}\n"
    )
    return FOUND if counts["unverifiable"] or counts["moved"] else DONE


async def _rebuild_one(comparer: Comparer, topic: Topic, still_alone: StillAlone | None) -> Verdict:
    """``still_alone`` is asked before each view is replaced; None: replace none."""
    async with comparer.replacer.replacing(topic) as replacement:
        return await _try_to_rebuild(comparer, topic, still_alone, replacement)


async def _try_to_rebuild(
    comparer: Comparer, topic: Topic, still_alone: StillAlone | None, replacement: Replacement
) -> Verdict:
    for attempt in range(_TRIES):
        try:
            comparison = await comparer.compare(topic)
        except MovingViewError:
            continue
        except MisfitViewError:
            sys.stderr.write(f"{topic.path} is left alone: {MISFIT}\n")
            return "unverifiable"
        if comparison.unverifiable is not None:
            sys.stderr.write(f"{topic.path} is left alone: {comparison.unverifiable}\n")
            return "unverifiable"
        if comparison.expired or not comparison.differences:
            return "same"
        if still_alone is not None:
            await still_alone()
        if still_alone is None or await replacement.put(comparison.live, comparison.fresh):
            sys.stdout.write(f"{topic.path}: {', '.join(sorted({one.path for one in comparison.differences}))}\n")
            return "rebuilt"
        await asyncio.sleep(random.uniform(0, 0.01 * min(attempt + 1, 20)))  # noqa: S311 - jitter
    sys.stderr.write(f"{topic.path} is left alone: it was committed again and again; run this once more\n")
    return "moved"


REBUILD: Final = Command("rebuild", "fold the log again and replace the views that differ", _ADD_ARGUMENTS, _rebuild)
