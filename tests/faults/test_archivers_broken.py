"""Archivers that die, under load, while all streams are trimmed to a little: history has everything once."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from core.log.archive.checkpoints import ArchiveCheckpoints
from core.log.archive.place import ArchiveSettings
from core.log.archive.rows import Row, entry_of
from core.log.archive.wanted import Wanted
from core.log.entry import decode
from core.log.history import History
from core.log.reader import LogReader
from core.views.checkpoints import Checkpoints
from core.views.folds import render
from core.views.rebuild import Fresh
from core.views.store import ViewStore
from pipai_contracts.ids import Topic
from services.standalone.embedded import Server
from tests.conftest import wait_until
from tests.faults.history import Answered
from tests.faults.round import Round, round_of
from tests.faults.scale import Scale
from tests.faults.services import Service, started

_EVERYTHING = 10_000_000


async def test_archivers_killed_at_random_moments_lose_and_repeat_nothing(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Callable[[list[str]], None]
) -> None:
    places = {"ARCHIVE_URL": (tmp_path / "archive").as_uri(), "ARCHIVE_SPOOL": str(tmp_path / "spool")}
    archiving = {**places, "REDIS_URL": own_redis.address, "ARCHIVE_SECONDS": "0.2"}
    archiver = Service("services.archiver", tmp_path, archiving)
    trimming = {"STREAM_MAX_ENTRIES": "150"}
    async with started(archiver), round_of(tmp_path, scale, seed, own_redis.address, **trimming) as it:
        for _ in range(scale.kills):
            await it.load(it.random.uniform(0.1, 1))
            async with it.fault("kill -9 of the archiver"):
                await archiver.kill()
            await archiver.start()
        await it.load(1)
        figures = await it.finish()
        await wait_until(lambda: _is_archived(it), 30, f"not everything was archived; see {archiver.log}")
        await wait_until(lambda: _is_trimmed(it), 30, "the streams were not trimmed")
        rows = await _history(it, places)
        await _assert_everything_is_there_once(it, rows)
        views = await _assert_views_are_their_fold(it, rows)
    tell([*figures, f"{len(rows)} in the history, {views} views folded from it"])


async def _is_archived(it: Round) -> bool:
    sources = it.keys.sources()
    archived = await ArchiveCheckpoints(it.redis).load(sources)
    projected = await Checkpoints(it.redis, it.keys).load_all(sources)
    return all(archived[source] == projected[source].lowest for source in sources)


async def _is_trimmed(it: Round) -> bool:
    return all([await it.redis.xlen(source.key) <= 150 for source in it.keys.sources()])


async def _history(it: Round, places: dict[str, str]) -> Sequence[Row]:
    settings = ArchiveSettings.model_validate({name.lower(): value for name, value in places.items()})
    archive = settings.open_archive()
    assert archive is not None
    try:
        history = History(LogReader(it.redis, it.keys), it.keys, archive)
        return await history.find(Wanted("default"), limit=_EVERYTHING)
    finally:
        archive.close()


async def _assert_everything_is_there_once(it: Round, rows: Sequence[Row]) -> None:
    found = Counter((f"{it.keys.prefix}:{row.stream}", str(row.stream_id)) for row in rows)
    answered = {
        (one.stream, one.stream_id)
        for one in it.history.happenings
        if isinstance(one, Answered) and one.outcome == "ok"
    }
    assert not answered - found.keys()
    assert set(found.values()) == {1}


async def _assert_views_are_their_fold(it: Round, rows: Sequence[Row]) -> int:
    """Every live view is what its events in the history say; returns how many there are."""
    fresh: dict[Topic, Fresh] = {}
    for row in rows:
        record = decode(it.keys.source(row.stream, 0), entry_of(row))
        for topic in record.topics:
            fresh.setdefault(topic, Fresh(topic, 1)).take(record)
    live = await ViewStore(it.redis, it.keys, feed_length=1, ttl=60).load(list(fresh))
    for topic, folded in fresh.items():
        assert render(live[topic].state) == render(folded.state), topic
        assert live[topic].pos == folded.pos, topic
    return len(fresh)
