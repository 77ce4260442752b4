"""A user is forgotten: nothing of theirs is found anywhere, and nobody else's is touched."""

import asyncio
import itertools
from collections.abc import AsyncGenerator
from pathlib import Path
from shlex import quote
from typing import Any, cast

import pytest

from core.log.archive.bases import Bases
from core.log.archive.spooled import Spooled, Waiting
from core.log.archive.wanted import Place, Wanted
from core.log.history import GivenUp
from core.log.tombstones import Tombstone, Tombstones
from core.runtime.storage import DOCUMENTS, open_storage
from core.runtime.tasks import running
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId
from services.admin import erase
from tests.admin.conftest import Admin
from tests.admin.forgetting import (
    MARK,
    USER,
    WORDS,
    at_work,
    carols,
    documents,
    found_in_files,
    found_in_redis,
    publish_all,
    report_of,
)
from tests.archiver.conftest import Archived, any_archived, archived, quick_watch
from tests.archiver.test_rebuilding import of_the_archive, shown_views
from tests.conftest import wait_until
from tests.core.telling import analysis, notice, step
from tests.projector.random_run import random_run

__all__ = ["any_archived", "archived", "documents", "of_the_archive", "quick_watch"]


async def _others(archived: Archived) -> dict[Topic, Any]:
    views = await shown_views(archived)
    return {topic: view for topic, view in views.items() if topic.id not in {USER, "carols", "carolsfile"}}


async def test_nothing_of_the_user_is_left_and_nothing_of_others_is_touched(
    any_archived: Archived, admin: Admin, tmp_path: Path, documents: str, capsys: pytest.CaptureFixture[str]
) -> None:
    archived, partitions = any_archived, any_archived.deployment.keys.partitions
    storage = open_storage(documents)
    for name in ("carolsfile", "another"):
        await storage.put(f"{DOCUMENTS}/{name}", _chunks(), 100)
    async with at_work(archived):
        await publish_all(archived)
        before, count = await _others(archived), len(await archived.all_history())
        assert await found_in_redis(archived)
        assert await admin("erase", USER, "--confirm", WORDS, "--json", partitions=partitions) == 0
        report = report_of(capsys)
        assert report == {
            "user": USER,
            "done": True,
            "topics": 3,
            "events_in_streams": 6,
            "events_in_archive": 6,
            "views": 3,
            "feed_entries": 10,
            "changes": 10,
            "dead_letters": 0,
            "uploads": 1,
        }
        assert await found_in_redis(archived) == []
        assert await _others(archived) == before
        assert len(await archived.all_history()) == count, "the places of what is gone are left"
    assert found_in_files(tmp_path) == []
    assert [await storage.exists(f"{DOCUMENTS}/{name}") for name in ("carolsfile", "another")] == [False, True]
    assert await admin("verify", partitions=partitions) == 0
    assert f"verified {len(before)}, different 0, unverifiable 0" in capsys.readouterr().out


async def _chunks() -> AsyncGenerator[bytes]:
    yield b"of a document"


async def test_without_the_words_it_is_only_said_what_would_go(
    archived: Archived, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    async with at_work(archived):
        await publish_all(archived)
    assert await admin("erase", USER) == 0
    assert "5 events of 3 topics" in (told := capsys.readouterr().out)
    assert f"--confirm {quote(WORDS)}\n" in told
    assert await admin("erase", USER, "--confirm", "erase") == 2
    assert await Tombstones(archived.deployment.redis, archived.deployment.keys).load() == {}
    assert await found_in_redis(archived)


async def test_what_is_published_afterwards_is_kept(archived: Archived, admin: Admin) -> None:
    deployment = archived.deployment
    async with at_work(archived):
        await publish_all(archived)
        assert await admin("erase", USER, "--confirm", WORDS) == 0
        await deployment.publish(step(60, "again", of="carols").by(USER), notice("welcome back", of=USER))
        await archived.settled()
        stored = (await deployment.store.load([Topic("default", "workflow", "carols")])).popitem()[1]
        assert stored.pos == 1
        history = archived.history.read_topic(Topic("default", "workflow", "carols"), GivenUp())
        assert [record.envelope.event.model_dump()["progress"] async for page in history for record in page] == [60]
    assert await admin("verify") == 0


async def test_it_makes_no_difference_who_publishes_meanwhile(
    any_archived: Archived, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user too: what comes after the tombstone is kept, and is in the views."""
    archived, partitions, done = any_archived, any_archived.deployment.keys.partitions, asyncio.Event()

    async def publish() -> None:
        for number in itertools.count():
            if done.is_set():
                return
            hers = [step(number % 100, "later", of="carols").by(USER), notice("later", of=USER)]
            await archived.deployment.publish(*random_run(number, 20), *(() if number % 10 else hers))
            await archived.projected()

    async with at_work(archived):
        await publish_all(archived)
        publishing = asyncio.create_task(publish())
        assert await admin("erase", USER, "--confirm", WORDS, partitions=partitions) == 0
        done.set()
        await publishing
        await archived.settled()
    assert MARK not in str(await archived.all_history())
    capsys.readouterr()
    assert await admin("verify", partitions=partitions) == 0
    assert "different 0, unverifiable 0" in capsys.readouterr().out


async def test_who_shared_a_topic_with_the_user_keeps_what_is_their_own(
    any_archived: Archived, admin: Admin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their own view had counted the events of the other, and had shown them."""
    archived, deployment, partitions = any_archived, any_archived.deployment, any_archived.deployment.keys.partitions
    topic = Topic("default", "workflow", "shared")
    async with at_work(archived):
        await deployment.publish(step(10, MARK, of="shared").by(USER))
        await deployment.redis.unlink(deployment.keys.source_of("workflow_progress", topic).owner(topic))  # it expires
        then = [step(20, MARK, of="shared").by("bob"), step(20, of="bobs").by("bob"), notice("for bob", of="bob")]
        await deployment.publish(*then)
        await archived.settled()
        assert await _pos_of_bob(archived) == 3
        assert await admin("erase", USER, "--confirm", WORDS, partitions=partitions) == 0
        assert await found_in_redis(archived) == []
        assert await _pos_of_bob(archived) == 2
        await deployment.publish(step(30, of="bobs").by("bob"))
        await archived.settled()
    assert found_in_files(tmp_path) == []
    capsys.readouterr()
    assert await admin("verify", partitions=partitions) == 0
    assert "different 0, unverifiable 0" in capsys.readouterr().out


async def _pos_of_bob(archived: Archived) -> int:
    [stored] = (await archived.deployment.store.load([Topic("default", "user", "bob")])).values()
    return stored.pos


async def test_nobody_finds_them_from_the_tombstone_on(
    archived: Archived,
    admin: Admin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No archiver comes to carry it out; when one does, the next run sees it through."""
    monkeypatch.setattr("services.admin.erase.PATIENCE", 0)
    monkeypatch.setattr("core.log.tombstones._REMEMBERED", -1)
    async with at_work(archived):
        await publish_all(archived)
    assert await admin("erase", USER, "--confirm", WORDS) == 1
    assert "run this again" in capsys.readouterr().err
    assert found_in_files(tmp_path), "what nobody finds is still there"
    assert MARK not in str(await archived.all_history())
    topic = Topic("default", "workflow", "carols")
    assert [page async for page in archived.history.read_topic(topic, GivenUp())] == []
    assert await admin("verify") == 0
    monkeypatch.setattr("services.admin.erase.PATIENCE", 30)
    async with at_work(archived):
        assert await admin("erase", USER, "--confirm", WORDS) == 0
    assert (found_in_files(tmp_path), await found_in_redis(archived)) == ([], [])


async def test_pages_of_the_history_are_full_though_what_is_hidden_stands_between(archived: Archived) -> None:
    deployment = archived.deployment
    hers = [step(at, MARK, of="carols").by(USER) for at in range(10)]
    await deployment.publish(*hers, *(step(at) for at in range(10)), *hers, *(step(at) for at in range(10, 20)))
    await Tombstones(deployment.redis, deployment.keys).add(Tombstone("default", USER, 2**50, frozenset()))
    sizes, after = list[int](), cast("Place | None", None)
    while page := await archived.history.find(Wanted("default"), after=after, limit=6):
        sizes.append(len(page))
        after = page[-1].place
    assert sizes == [6, 6, 6, 2]


async def test_an_archiver_that_is_killed_in_the_middle_is_followed_by_one_that_goes_on(
    archived: Archived, admin: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, died = Bases.change, asyncio.Event()

    async def die(bases: Bases, *asked: Any) -> None:
        if not died.is_set():
            died.set()
            raise ConnectionError("killed")
        await change(bases, *asked)

    monkeypatch.setattr(Bases, "change", die)
    async with at_work(archived):
        await publish_all(archived)
        assert await admin("erase", USER, "--confirm", WORDS) == 0
    assert died.is_set()
    assert found_in_files(tmp_path) == []


async def test_a_redis_that_lost_its_tombstones_takes_those_of_the_archive(archived: Archived, admin: Admin) -> None:
    deployment = archived.deployment
    async with at_work(archived):
        await publish_all(archived)
        assert await admin("erase", USER, "--confirm", WORDS) == 0
    tombstones = Tombstones(deployment.redis, deployment.keys)
    before = await tombstones.load()
    await deployment.redis.unlink(deployment.keys.tombstones)
    async with at_work(archived):
        await wait_until(lambda: _has(tombstones, before), 20)


async def _has(tombstones: Tombstones, wanted: object) -> bool:
    return await tombstones.load() == wanted


async def test_dead_letters_of_the_user_go_and_no_others(
    archived: Archived, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = archived.deployment
    source = deployment.source()
    async with at_work(archived):
        await publish_all(archived)
        for of, user in (("carols", USER), ("another", "ada")):
            fields: dict[Any, Any] = {
                "id": f"bad {of}", "type": "workflow_progress", "v": "1", "tenant": "default",
                "topic": f"workflow:{of}",
                "offset": await deployment.redis.incr(source.offset), "user": user, "run": "", "time": "no time",
                "data": MARK if user == USER else "what ada wrote",
            }  # fmt: skip
            await deployment.redis.xadd(source.key, fields)
        await wait_until(lambda: _letters(archived, 2), 20)
        await archived.settled()
        assert await admin("erase", USER, "--confirm", WORDS, "--json") == 0
        assert report_of(capsys)["dead_letters"] == 1
        assert await _letters(archived, 1)
        assert await found_in_redis(archived) == []


async def _letters(archived: Archived, count: int) -> bool:
    return await archived.deployment.redis.xlen(archived.deployment.keys.dead(archived.deployment.source())) == count


async def test_an_entry_of_another_hand_with_a_topic_that_is_none_keeps_nobody_from_being_forgotten(
    archived: Archived, admin: Admin, tmp_path: Path
) -> None:
    deployment = archived.deployment
    source = deployment.source()
    async with at_work(archived):
        await publish_all(archived)
        for topic in ({"topic": "carols"}, {}):
            offset = await deployment.redis.incr(source.offset)
            fields: dict[Any, Any] = {"id": "odd", "tenant": "default", **topic, "offset": offset, "user": USER}
            await deployment.redis.xadd(source.key, fields)
        await archived.settled()
        assert await admin("erase", USER, "--confirm", WORDS) == 0
        assert await found_in_redis(archived) == []
    assert found_in_files(tmp_path) == []


async def test_an_event_that_append_would_write_otherwise_is_the_users_all_the_same(
    archived: Archived, admin: Admin, tmp_path: Path
) -> None:
    deployment = archived.deployment
    source = deployment.source()
    fields: dict[Any, Any] = {
        "id": "hers", "type": "workflow_progress", "v": "1", "tenant": "default", "topic": "workflow:carols",
        "offset": await deployment.redis.incr(source.offset), "user": USER, "run": "",
        "time": "2025-01-01T00:00:00+00:00", "data": '{"workflow_id":"carols","step":"s","progress":5}',
    }  # fmt: skip
    await deployment.redis.xadd(source.key, fields)
    async with at_work(archived):
        await archived.settled()
        await wait_until(lambda: not archived.spool.segments())
        await deployment.redis.xtrim(source.key, maxlen=0, approximate=False)
        [found] = await archived.history.find(Wanted("default", user_id=USER), limit=2)
        assert (found.event_id, found.user_id) == ("hers", USER)
        assert await admin("erase", USER, "--confirm", WORDS) == 0
    assert (await found_in_redis(archived), found_in_files(tmp_path)) == ([], [])


async def test_views_go_whose_events_are_long_gone(
    archived: Archived, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIVE_URL", "off")
    async with archived.deployment.projecting():
        await archived.deployment.publish(*carols())
        await archived.projected()
        for source in archived.deployment.keys.sources():
            await archived.deployment.redis.xtrim(source.key, maxlen=0, approximate=False)
        assert await admin("erase", USER, "--confirm", WORDS) == 0
    assert await found_in_redis(archived) == []


async def test_it_works_without_an_archive(archived: Archived, admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_URL", "off")
    async with archived.deployment.projecting():
        await archived.deployment.publish(*carols(), *random_run(1, 50))
        await archived.projected()
        assert await admin("erase", USER, "--confirm", WORDS) == 0
    assert await found_in_redis(archived) == []


async def test_what_others_publish_all_the_while_keeps_nobody_from_being_forgotten(
    archived: Archived, admin: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is never a moment in which no segment waits for the store."""
    monkeypatch.setattr(erase, "PATIENCE", 30)

    async def produce() -> None:
        for number in itertools.count():
            await archived.deployment.publish(step(number % 100, of="others"), analysis(number % 100, of="othersfile"))
            await asyncio.sleep(0.02)

    load, at = Spooled.load, StreamId(2**42, 0)

    async def load_and_more(spooled: Spooled) -> set[Waiting]:
        return {*await load(spooled), Waiting("notifications", archived.spool.name, at, at)}

    async with at_work(archived):
        await publish_all(archived)
        await wait_until(lambda: not archived.spool.segments())
        monkeypatch.setattr(Spooled, "load", load_and_more)
        async with running(produce()):
            assert await admin("erase", USER, "--confirm", WORDS) == 0
    assert found_in_files(tmp_path) == []
