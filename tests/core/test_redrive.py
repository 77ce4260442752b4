"""Dead letters are found, appended again once, or deleted."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError  # noqa: A004

from core.log import letters as letters_module
from core.log.append import Appender
from core.log.entry import decode
from core.log.errors import LogUnavailableError, UnknownLetterError, UnknownSourceError
from core.log.keys import Keys, Source
from core.log.letters import Letters
from core.log.redrive import Resolver, Tally
from pipai_contracts.dead_letters import LetterFilter
from pipai_contracts.ids import Topic
from tests.core.dead_letters import EVENT, DeadEnd
from tests.core.telling import ai, step

EVERYTHING = LetterFilter()


@pytest.fixture
def source(keys: Keys) -> Source:
    return keys.source("workflow:progress", 0)


@pytest.fixture
def dead_end(redis: Redis, keys: Keys, source: Source) -> DeadEnd:
    return DeadEnd(redis, keys, source)


@pytest.fixture
def letters(redis: Redis, keys: Keys) -> Letters:
    return Letters(redis, keys)


@pytest.fixture
def resolver(redis: Redis, keys: Keys) -> Resolver:
    return Resolver(redis, keys, owner_ttl=60)


async def _ids(letters: Letters, limit: int = 100, **wanted: str) -> list[str]:
    page = await letters.page(LetterFilter.model_validate(wanted), after=None, limit=limit)
    return [letter.id for letter in page.letters]


async def test_a_letter_tells_what_its_event_says_of_itself(letters: Letters, dead_end: DeadEnd) -> None:
    await dead_end.park(1, user=b"ada", attempts=b"2", redriven=b"workflow:progress 0-1")
    letter = await letters.find(dead_end.source, "1-0")
    assert (letter.source, letter.id, letter.stream_id, letter.attempts) == ("workflow:progress", "1-0", "1-0", 3)
    assert (letter.tenant, letter.topic, letter.type) == ("default", "workflow:w", "workflow_progress")
    assert (letter.event_id, letter.user_id) == ("e1", "ada")
    assert (letter.error, letter.redriven_from) == ("ValueError: bad", "workflow:progress 0-1")
    assert letter.fields is not None
    assert letter.fields["data"] == EVENT[b"data"].decode()


async def test_a_letter_without_readable_fields_is_shown_all_the_same(letters: Letters, dead_end: DeadEnd) -> None:
    await dead_end.park_raw(1, {b"\xff": b"\xfe", b"type": b"\xff", b"topic": b"a\nb", b"id": b""})
    letter = await letters.find(dead_end.source, "1-0")
    assert (letter.type, letter.topic, letter.event_id, letter.tenant) == (None, None, None, None)
    assert letter.fields == {"\\xff": "\\xfe", "type": "\\xff", "topic": "a\nb", "id": ""}


async def test_what_another_hand_put_among_the_letters_is_shown_too(
    redis: Redis, keys: Keys, letters: Letters, dead_end: DeadEnd
) -> None:
    await redis.xadd(keys.dead(dead_end.source), {"x": "y"}, id="1000-0")
    letter = await letters.find(dead_end.source, "1000-0")
    assert (letter.parked, letter.attempts, letter.error) == ("1970-01-01T00:00:01.000Z", 1, "")


async def test_letters_are_found_by_type_topic_error_and_time(letters: Letters, dead_end: DeadEnd) -> None:
    await dead_end.park(1, type=b"temporal_status", error="Out of luck")
    await dead_end.park(2, topic=b"workflow:v")
    await dead_end.park(3)
    first, _, last = (await letters.page(EVERYTHING, after=None, limit=3)).letters

    assert await _ids(letters, type="temporal_status") == ["1-0"]
    assert await _ids(letters, topic="workflow:v") == ["2-0"]
    assert await _ids(letters, error="of LUCK") == ["1-0"]
    assert await _ids(letters, error="of luck", topic="workflow:v") == []
    assert await _ids(letters, parked_before=first.parked) == []
    assert await _ids(letters, parked_after=last.parked) == []
    assert await _ids(letters, parked_after="2020-01-01T00:00:00Z") == ["1-0", "2-0", "3-0"]
    assert await letters.count(LetterFilter(topic="workflow:w")) == 2


async def test_a_source_is_all_its_partitions_or_one(redis: Redis, key_prefix: str) -> None:
    keys = Keys(key_prefix, 2)
    for partition in (0, 1):
        await DeadEnd(redis, keys, keys.source("notifications", partition)).park(partition + 1)
    await DeadEnd(redis, keys, keys.source("ai:progress", 1)).park(3)
    letters = Letters(redis, keys)

    assert await _ids(letters, source="notifications") == ["1-0", "2-0"]
    assert await _ids(letters, source="notifications:1") == ["2-0"]
    assert letters.partition("notifications:1") == keys.source("notifications", 1)
    with pytest.raises(UnknownSourceError, match="has 2 partitions: say which, like notifications:0"):
        letters.partition("notifications")
    with pytest.raises(UnknownSourceError, match=r"no source 'mail'; there are ai:progress:0, "):
        await _ids(letters, source="mail")


async def test_pages_show_every_letter_once(redis: Redis, keys: Keys, letters: Letters) -> None:
    for name, count in (("workflow:progress", 7), ("notifications", 4)):
        end = DeadEnd(redis, keys, keys.source(name, 0))
        for number in range(1, count + 1):
            await end.park(number)
    seen: list[tuple[str, str]] = []
    after = None
    while True:
        page = await letters.page(EVERYTHING, after=after, limit=3)
        assert len(page.letters) <= 3
        seen += [(letter.source, letter.id) for letter in page.letters]
        after = page.next
        if after is None:
            break
    assert seen == [("workflow:progress", f"{n}-0") for n in range(1, 8)] + [
        ("notifications", f"{n}-0") for n in range(1, 5)
    ]


async def test_a_page_looks_at_a_bounded_number_of_letters(
    letters: Letters, dead_end: DeadEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters_module, "_MAX_LOOKED_AT", 3)
    for number in range(1, 6):
        await dead_end.park(number, topic=b"workflow:last" if number == 5 else b"workflow:w")
    wanted = LetterFilter(topic="workflow:last")
    first = await letters.page(wanted, after=None, limit=1)
    assert (first.letters, first.next) == ([], "workflow:progress/3-0")
    second = await letters.page(wanted, after=first.next, limit=1)
    assert [letter.id for letter in second.letters] == ["5-0"]


@pytest.mark.parametrize("place", ["", "x", "workflow:progress", "workflow:progress/", "workflow:progress/1", "/1-1"])
async def test_a_place_of_another_form_is_refused(letters: Letters, place: str) -> None:
    with pytest.raises((ValueError, UnknownSourceError)):
        await letters.page(EVERYTHING, after=place, limit=1)


async def test_the_census_counts_letters_and_says_how_old_the_oldest_is(letters: Letters, dead_end: DeadEnd) -> None:
    for number in (1, 2):
        await dead_end.park(number)
    census = {entry.source.name: entry for entry in await letters.census()}
    assert census["workflow:progress"].count == 2
    assert 0 <= census["workflow:progress"].oldest < 60
    assert (census["notifications"].count, census["notifications"].oldest) == (0, 0)


async def test_a_redriven_letter_is_a_new_event_that_names_the_old(resolver: Resolver, dead_end: DeadEnd) -> None:
    await dead_end.park(1, offset=b"17", data=b"\xff\x00")
    assert (await resolver.redrive(EVERYTHING, limit=10)).by_source == {"workflow:progress": Tally(done=1)}
    (entry,) = await dead_end.log()
    assert entry.fields == {
        **EVENT,
        b"data": b"\xff\x00",
        b"id": b"redrive:workflow:progress:1-0",
        b"offset": b"1",
        b"redriven": b"workflow:progress 1-0",
        b"attempts": b"1",
    }
    assert await dead_end.ids() == []


async def test_an_event_that_could_be_read_after_all_is_read(resolver: Resolver, dead_end: DeadEnd) -> None:
    await dead_end.park(1)
    await resolver.redrive(EVERYTHING, limit=1)
    record = decode(dead_end.source, (await dead_end.log())[0])
    assert (record.envelope.event_id, record.offset, record.data) == (
        "redrive:workflow:progress:1-0",
        1,
        EVENT[b"data"],
    )


async def test_an_entry_of_another_hand_gets_an_id_and_an_offset(resolver: Resolver, dead_end: DeadEnd) -> None:
    await dead_end.park_raw(1, {b"hello": b"world"})
    await resolver.redrive(EVERYTHING, limit=1)
    (entry,) = await dead_end.log()
    assert (entry.fields[b"hello"], entry.offset) == (b"world", 1)


async def test_offsets_go_on_and_the_order_of_the_originals_stays(
    resolver: Resolver, dead_end: DeadEnd, appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters_module, "LETTERS_READ", 2)
    await appender.append([step(1).envelope("a")])
    for number in range(1, 6):
        await dead_end.park(number)
    await resolver.redrive(EVERYTHING, limit=10)
    await appender.append([step(2).envelope("b")])

    entries = await dead_end.log()
    assert [entry.offset for entry in entries] == [1, 2, 3, 4, 5, 6, 7]
    told = [entry.fields.get(b"redriven", b"").decode() for entry in entries]
    assert told == ["", *(f"workflow:progress {number}-0" for number in range(1, 6)), ""]


async def test_what_still_fails_is_parked_again_as_tried_twice(
    resolver: Resolver, letters: Letters, dead_end: DeadEnd
) -> None:
    await dead_end.park(1)
    for attempts in (2, 3):
        await resolver.redrive(EVERYTHING, limit=10)
        await dead_end.park_all()
        (letter,) = (await letters.page(EVERYTHING, after=None, limit=10)).letters
        assert (letter.attempts, letter.error) == (attempts, "ValueError: still bad")


async def test_letters_parked_meanwhile_are_left_alone(
    resolver: Resolver, dead_end: DeadEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else redriving everything would never end while every event fails again at once."""
    monkeypatch.setattr(letters_module, "LETTERS_READ", 2)
    for number in range(1, 6):
        await dead_end.park(number)
    redrive = resolver._redrive  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    async def and_park_again(source: Source, chosen: list[letters_module.DeadLetter]) -> Tally:
        tally = await redrive(source, chosen)
        await dead_end.park_all()
        return tally

    monkeypatch.setattr(resolver, "_redrive", and_park_again)
    assert (await resolver.redrive(EVERYTHING, limit=100)).total == Tally(done=5)
    assert len(await dead_end.ids()) == 5


async def test_a_limit_leaves_the_rest_and_says_so(resolver: Resolver, dead_end: DeadEnd) -> None:
    for number in range(1, 5):
        await dead_end.park(number, topic=b"workflow:%d" % (number % 2))
    odd = LetterFilter(topic="workflow:1")
    first, second = await resolver.redrive(odd, limit=1), await resolver.redrive(odd, limit=1)
    assert [(resolved.total.done, resolved.more) for resolved in (first, second)] == [(1, True), (1, False)]
    assert await dead_end.ids() == ["2-0", "4-0"]


async def test_redriving_by_id_twice_appends_once_and_says_so(resolver: Resolver, dead_end: DeadEnd) -> None:
    for number in (1, 2, 3):
        await dead_end.park(number)
    answers = [await resolver.redrive_named(dead_end.source, ["3-0", "1-0", "9-9"]) for _ in range(2)]
    assert answers == [Tally(done=2, gone=1), Tally(already=2, gone=1)]
    assert [entry.fields[b"redriven"] for entry in await dead_end.log()] == [
        b"workflow:progress 1-0",
        b"workflow:progress 3-0",
    ]
    assert await dead_end.ids() == ["2-0"]


async def test_two_who_redrive_everything_at_once_append_each_event_once(
    redis: Redis, keys: Keys, dead_end: DeadEnd
) -> None:
    for number in range(1, 121):
        await dead_end.park(number)
    rivals = [Resolver(redis, keys, owner_ttl=60) for _ in range(3)]
    resolved = await asyncio.gather(*(rival.redrive(EVERYTHING, limit=1000) for rival in rivals))
    assert sum(one.total.done for one in resolved) == 120, "each letter is counted by the one who redrove it"
    assert sum(one.total.gone for one in resolved) == 0
    told = [entry.fields[b"redriven"] for entry in await dead_end.log()]
    assert len(told) == len(set(told)) == 120
    assert await dead_end.ids() == []


async def test_a_lost_answer_redrives_once(
    resolver: Resolver, dead_end: DeadEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Appending and deleting are one step: who asks again finds both done."""
    for number in (1, 2, 3):
        await dead_end.park(number)
    script = resolver._script  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    async def unheard(**given: Any) -> None:
        await script(**given)
        raise ConnectionError("reset by peer")

    with monkeypatch.context() as broken:
        broken.setattr(resolver, "_script", unheard)
        with pytest.raises(LogUnavailableError, match="reset by peer"):
            await resolver.redrive_named(dead_end.source, ["1-0", "2-0"])
    assert await resolver.redrive_named(dead_end.source, ["1-0", "2-0"]) == Tally(already=2)
    assert (await resolver.redrive(EVERYTHING, limit=10)).total == Tally(done=1)
    assert [entry.offset for entry in await dead_end.log()] == [1, 2, 3]
    assert await dead_end.ids() == []


async def test_an_event_that_failed_before_it_had_an_owner_gets_it(
    redis: Redis, resolver: Resolver, appender: Appender, dead_end: DeadEnd
) -> None:
    await dead_end.park(1)
    await appender.append([step(1).by("ada").envelope("a")])
    await resolver.redrive(EVERYTHING, limit=1)
    assert (await dead_end.log())[-1].fields[b"user"] == b"ada"
    assert await redis.ttl(dead_end.source.owner(Topic("default", "workflow", "w"))) > 0


async def test_an_ai_event_gets_the_owner_of_its_workflow(
    redis: Redis, resolver: Resolver, appender: Appender, keys: Keys
) -> None:
    """Another stream remembers it."""
    end = DeadEnd(redis, keys, keys.source("ai:progress", 0))
    await end.park(1, type=b"ai_progress", data=b'{"workflow_id":"w","step":"s"}', user=b"bob")
    await appender.append([step(1).by("ada").envelope("a")])
    await resolver.redrive(EVERYTHING, limit=1)
    assert (await end.log())[0].fields[b"user"] == b"ada"


async def test_a_redriven_event_makes_its_owner_known_again(
    resolver: Resolver, appender: Appender, dead_end: DeadEnd
) -> None:
    await dead_end.park(1, user=b"ada")
    await resolver.redrive(EVERYTHING, limit=1)
    await appender.append([step(2).envelope("b"), ai("x").envelope("c")])
    assert (await dead_end.log())[-1].fields[b"user"] == b"ada"


@pytest.mark.parametrize("user", [b"\xff", b"x" * 201, b"a\nb"])
async def test_a_user_that_can_own_nothing_owns_nothing(
    resolver: Resolver, redis: Redis, dead_end: DeadEnd, user: bytes
) -> None:
    """Its name among the owners would fail later publishes."""
    await dead_end.park(1, user=user)
    await resolver.redrive(EVERYTHING, limit=1)
    assert (await dead_end.log())[0].fields[b"user"] == user
    assert not await redis.exists(dead_end.source.owner(Topic("default", "workflow", "w")))


async def test_an_entry_of_very_many_fields_stays_a_letter(resolver: Resolver, dead_end: DeadEnd) -> None:
    await dead_end.park_raw(1, {b"%d" % number: b"" for number in range(5000)})
    await dead_end.park(2)
    assert (await resolver.redrive(EVERYTHING, limit=10)).total == Tally(done=1, refused=1)
    assert await dead_end.ids() == ["1-0"]


async def test_a_counter_that_is_no_number_moves_nothing(redis: Redis, resolver: Resolver, dead_end: DeadEnd) -> None:
    await dead_end.park(1)
    await redis.set(dead_end.source.offset, "x")
    with pytest.raises(LogUnavailableError, match="cannot append to"):
        await resolver.redrive(EVERYTHING, limit=1)
    await redis.delete(dead_end.source.offset)
    assert (await dead_end.ids(), await dead_end.log()) == (["1-0"], [])


async def test_purged_letters_are_gone_and_nothing_is_appended(
    resolver: Resolver, letters: Letters, dead_end: DeadEnd
) -> None:
    for number in range(1, 6):
        await dead_end.park(number, topic=b"workflow:%d" % (number % 2))
    assert await resolver.purge_named(dead_end.source, ["1-0", "1-0", "9-9"]) == Tally(done=1, gone=1)
    assert (await resolver.purge(LetterFilter(topic="workflow:1"), limit=1)).more
    assert await dead_end.ids() == ["2-0", "4-0", "5-0"]
    assert (await resolver.purge(EVERYTHING, limit=10)).total == Tally(done=3)
    assert (await dead_end.ids(), await dead_end.log()) == ([], [])
    with pytest.raises(UnknownLetterError, match="no dead letter workflow:progress/1-0"):
        await letters.find(dead_end.source, "1-0")


async def test_letters_of_partitions_stay_in_their_partition(redis: Redis, key_prefix: str) -> None:
    keys = Keys(key_prefix, 4)
    resolver = Resolver(redis, keys, owner_ttl=60)
    ends = [DeadEnd(redis, keys, keys.source("workflow:progress", partition)) for partition in range(4)]
    for number, end in enumerate(ends, start=1):
        await end.park(number, user=b"ada")
    assert (await resolver.redrive(EVERYTHING, limit=10)).total.done == 4
    for number, end in enumerate(ends, start=1):
        (entry,) = await end.log()
        assert entry.fields[b"redriven"] == f"workflow:progress:{number - 1} {number}-0".encode()


async def test_an_answer_lost_and_asked_for_again_by_the_client_counts_as_done(
    resolver: Resolver, dead_end: DeadEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As redis-py does by itself when a connection breaks: the same call comes twice."""
    await dead_end.park(1)
    script = resolver._script  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    async def twice(**given: Any) -> Any:
        await script(**given)
        return await script(**given)

    monkeypatch.setattr(resolver, "_script", twice)
    assert await resolver.redrive_named(dead_end.source, ["1-0"]) == Tally(done=1)


@pytest.mark.parametrize(("version", "refused"), [(b"1", 0), (b"2", 1), (b"10000", 1), (b"10001", 0), (b"x", 0)])
async def test_an_event_that_its_source_would_wait_for_is_not_redriven(
    resolver: Resolver, dead_end: DeadEnd, version: bytes, refused: int
) -> None:
    await dead_end.park(1, v=version)
    tally = (await resolver.redrive(EVERYTHING, limit=10)).total
    assert tally == Tally(done=1 - refused, refused=refused)
    assert len(await dead_end.ids()) == refused
