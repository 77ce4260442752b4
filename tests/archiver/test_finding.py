"""Events are found by what they are about, in the order of the log, wherever they are."""

import pytest

from core.log.archive import archive
from core.log.archive.archive import SlowSearchError
from core.log.archive.rows import Row
from core.log.archive.wanted import Place, Wanted
from services.archiver import writing
from tests.archiver.conftest import Archived
from tests.core.telling import ai, analysis, notice, step


def _names(rows: list[Row]) -> set[str | None]:
    """What was found; two sources may give one stream id, so their order is not that of publishing."""
    places = [row.place for row in rows]
    assert places == sorted(set(places))
    return {row.event_id for row in rows}


async def _half_archived(archived: Archived) -> None:
    """Events e0 … e11: the first half is in the archive alone, the other in the log alone."""
    told = [
        step(10, of="w1").by("ada"),
        ai("x", of="w1"),
        analysis(20, of="f1").by("ada"),
        notice("n", of="ada"),
        step(10, of="w2").by("bob"),
        notice("n", of="bob"),
    ]
    async with archived.deployment.projecting(), archived.archiving():
        await archived.deployment.publish(*told)
        await archived.settled()
    for source in archived.deployment.keys.sources():
        await archived.deployment.redis.xtrim(source.key, maxlen=0, approximate=False)
    await archived.deployment.publish(*told)


async def test_by_topic(archived: Archived) -> None:
    await _half_archived(archived)
    found = await archived.history.find(Wanted("default", kind="workflow", id="w1"), limit=100)
    assert _names(found) == {"e0", "e1", "e6", "e7"}


async def test_by_kind(archived: Archived) -> None:
    await _half_archived(archived)
    found = await archived.history.find(Wanted("default", kind="file"), limit=100)
    assert _names(found) == {"e2", "e8"}


async def test_by_id_of_any_kind(archived: Archived) -> None:
    await _half_archived(archived)
    found = await archived.history.find(Wanted("default", id="bob"), limit=100)
    assert _names(found) == {"e5", "e11"}


async def test_by_user_and_what_that_user_owns(archived: Archived) -> None:
    await _half_archived(archived)
    found = await archived.history.find(Wanted("default", user_id="ada"), limit=100)
    assert _names(found) == {"e0", "e1", "e2", "e3", "e6", "e7", "e8", "e9"}


async def test_by_type(archived: Archived) -> None:
    await _half_archived(archived)
    found = await archived.history.find(Wanted("default", type="notification"), limit=100)
    assert _names(found) == {"e3", "e5", "e9", "e11"}


async def test_by_time(archived: Archived) -> None:
    await _half_archived(archived)
    everything = await archived.history.find(Wanted("default"), limit=100)
    moment = everything[6].stream_ms
    assert everything[5].stream_ms < moment

    assert await archived.history.find(Wanted("default", since=moment), limit=100) == everything[6:]
    assert await archived.history.find(Wanted("default", until=moment), limit=100) == everything[:6]


async def test_page_by_page_everything_comes_once(archived: Archived) -> None:
    await _half_archived(archived)
    everything = await archived.history.find(Wanted("default"), limit=100)
    pages: list[Row] = []
    place: Place | None = None
    while page := await archived.history.find(Wanted("default"), after=place, limit=5):
        assert len(page) <= 5
        pages += page
        place = page[-1].place
    assert pages == everything
    assert len(everything) == 12


async def test_of_another_tenant_nothing(archived: Archived) -> None:
    await _half_archived(archived)
    assert await archived.history.find(Wanted("other"), limit=100) == []


async def test_a_search_goes_through_as_many_segments_as_it_needs(
    archived: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "ROWS", 2)
    async with archived.deployment.projecting():
        for _ in range(20):
            await archived.deployment.publish(step(1, of="w"), analysis(1, of="f"))
        await archived.projected()
        async with archived.archiving(archive_seconds=60):
            await archived.settled()
    everything = await archived.history.find(Wanted("default"), limit=100)
    monkeypatch.setattr(archive, "_FIRST", 1)
    monkeypatch.setattr(archive, "_MOST", 2)
    for limit in (1, 3, 7, 39, 40, 41):
        assert await archived.history.find(Wanted("default"), limit=limit) == everything[:limit]
        beyond = await archived.history.find(Wanted("default"), after=everything[4].place, limit=limit)
        assert beyond == everything[5 : 5 + limit]
    monkeypatch.setattr(archive, "_PATIENCE", 0.0)
    with pytest.raises(SlowSearchError):
        await archived.history.find(Wanted("default", type="notification"), limit=1)
