"""Whatever happens to a history, in whatever order: views are the fold of what was published and not given up.

`SEEDS` is how many orders are tried; more of them for a longer look, from `FIRST_SEED` on.
"""

import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from core.log.archive.parquet import Parquet
from core.log.archive.spooled import Spooled
from core.log.scan import viewed_topics
from services.archiver import compaction, writing
from services.archiver.compaction import Compactor
from services.projector import returning
from tests.admin.conftest import Admin, admin
from tests.archiver.conftest import Archived
from tests.archiver.test_rebuilding import lose_views, of_the_archive, trim
from tests.archiver.test_retention import give_up_old, nothing_waits, noticed_at_once, publish_on_days
from tests.conftest import wait_until
from tests.projector.random_run import random_run

__all__ = ["admin", "noticed_at_once", "of_the_archive"]

FIRST_SEED, SEEDS = int(os.environ.get("FIRST_SEED", "9")), int(os.environ.get("SEEDS", "4"))
_OLDEST = 14
"""Days ago: when the first events are appended."""


class _History:
    """What may happen to the history of one deployment, as an order of chances has it."""

    def __init__(self, archived: Archived, admin: Admin, folder: Path, chances: Random) -> None:
        self._archived = archived
        self._deployment = archived.deployment
        self._admin = admin
        self._folder = folder
        self._chances = chances
        self._day = _OLDEST
        self.told: list[str] = []

    async def live(self) -> None:
        """Let a few things happen, one after another; in the end a user may be erased."""
        happenings: list[Callable[[], Awaitable[None]]] = [
            self._publish, self._publish, self._publish, self._views_expire, self._views_are_lost, self._compact,
            self._give_up_old, self._rebuild,
        ]  # fmt: skip
        chosen = [self._publish, *self._chances.choices(happenings, k=self._chances.randint(2, 6))]
        if self._chances.random() < 0.4:
            chosen.append(self._erase)
        for happening in chosen:
            self.told.append(f"{happening.__name__.strip('_')} {self._day} days ago")
            await happening()
            assert await self._is_right(), self.told

    async def _is_right(self) -> bool:
        return await self._command("verify") == 0

    async def _command(self, *arguments: str) -> int:
        return await self._admin(*arguments, partitions=self._deployment.keys.partitions)

    async def _publish(self) -> None:
        if self._day < 2:
            return
        await trim(self._archived)
        seed, count = self._chances.randrange(10**6), self._chances.randint(20, 150)
        await publish_on_days(self._archived, (self._day, random_run(seed, count)))
        self._day = max(self._day - self._chances.randint(1, 3), 1)
        reading = self._archived.settings.model_dump(include={"archive_url", "archive_spool"})
        async with self._deployment.projecting(**reading), self._archived.archiving() as archiver:
            await wait_until(lambda: archiver.ready)
            await self._archived.settled()
            await nothing_waits(self._archived)
            await trim(self._archived)
            await wait_until(self._is_right, 30, message=f"views differ after {self.told}")

    async def _views_expire(self) -> None:
        topics = sorted([topic async for topic in viewed_topics(self._deployment.redis, self._deployment.keys)])
        for topic in self._chances.sample(topics, len(topics) // 2):
            await self._deployment.redis.unlink(self._deployment.keys.view(topic), self._deployment.keys.feed(topic))

    async def _views_are_lost(self) -> None:
        await lose_views(self._archived)

    async def _compact(self) -> None:
        parquet, store = Parquet(self._folder), self._archived.settings.open_store()
        spooled = Spooled(self._deployment.redis, self._deployment.keys)
        tomorrow = datetime.now(UTC).date() + timedelta(days=1)
        await Compactor(store, spooled, parquet, self._folder).sweep(tomorrow)
        parquet.close()

    async def _give_up_old(self) -> None:
        await give_up_old(self._archived, days=self._chances.randint(self._day, _OLDEST))

    async def _rebuild(self) -> None:
        assert await self._command("rebuild", "all") == 0, self.told

    async def _erase(self) -> None:
        """The tombstone hides what was appended up to now, so nothing can be appended on a day before it any more."""
        user = self._chances.choice(["ada", "bob"])
        async with self._deployment.projecting(), self._archived.archiving() as archiver:
            await wait_until(lambda: archiver.ready)
            assert await self._command("erase", user, "--confirm", f"erase user {user}") == 0, self.told


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SEEDS))
async def test_views_are_the_fold_of_what_is_left(
    seed: int, any_archived: Archived, admin: Admin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chances = Random(seed)
    monkeypatch.setenv("VIEW_TTL", "600")
    monkeypatch.setattr(returning, "_LOOK_EVERY", 0.05)
    monkeypatch.setattr(returning, "_CLOCKS_MS", 365 * 24 * 3600 * 1000)
    monkeypatch.setattr(compaction, "MANY", 2)
    monkeypatch.setattr(writing, "ROWS", chances.choice([5, 20, 1000]))
    await _History(any_archived, admin, tmp_path / "compacting", chances).live()
