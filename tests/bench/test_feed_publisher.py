"""The writer of the delivery bench leaves in Redis what commits leave there."""

from typing import cast

from redis.asyncio import Redis

from bench.stand.payload import data, token, topic_id
from bench.stand.publishers import FEED_LENGTH, FeedPublisher
from core.log.keys import Keys
from core.views.project import fold_batch
from core.views.store import ViewStore
from core.views.stored import epoch_of, unheard_of
from pipai_contracts.envelope import Envelope, encode_data
from pipai_contracts.events import WorkflowProgress
from pipai_contracts.ids import Topic
from pipai_contracts.record import BEGINNING, Record, StreamId

WRITTEN, COMMITTED = (Topic("default", "workflow", topic_id(number)) for number in (0, 1))
SOURCE = "workflow:progress"
TIME = "2026-01-01T00:00:00.000Z"

Entries = list[tuple[bytes, dict[bytes, bytes]]]


async def entries(redis: Redis, key: str) -> Entries:
    return cast("Entries", await redis.xrange(key))


async def commit_the_same(redis: Redis, keys: Keys, told: Entries) -> None:
    """Fold and commit, one by one and about the other topic, the events that the writer left in its feed."""
    store, loaded = ViewStore(redis, keys, feed_length=FEED_LENGTH, ttl=600), unheard_of(COMMITTED)
    for number, (_, fields) in enumerate(told, start=1):
        sent = fields[b"data"].replace(b',"timestamp":"%b"' % TIME.encode(), b"")
        event = WorkflowProgress.model_validate_json(as_if_committed(sent))
        envelope = Envelope(event_id=f"e{number}", time=TIME, event=event)
        record = Record.of(SOURCE, StreamId.parse(fields[b"stream_id"]), number, envelope, encode_data(event))
        (update,) = fold_batch([record], {COMMITTED: loaded}, version=f"v{number}").updates
        assert all(await store.commit(0, 0, [update], source=keys.source(SOURCE, 0), since=BEGINNING))
        loaded = update.after


def as_if_committed(value: bytes) -> bytes:
    return value.replace(WRITTEN.id.encode(), COMMITTED.id.encode())


async def test_feed_changes_and_view_are_those_of_commits(redis_url: str, key_prefix: str) -> None:
    keys = Keys(key_prefix)
    publisher = FeedPublisher(redis_url, keys)
    with publisher.connection:
        await publisher.begin([WRITTEN])
        publisher.publish([0, 0], sent=7)
        publisher.publish([0], sent=8)
        publisher.settle()
    async with Redis.from_url(redis_url, protocol=2) as redis:
        feed = await entries(redis, keys.feed(WRITTEN))
        await commit_the_same(redis, keys, feed)

        assert [
            (number, {name: as_if_committed(value) for name, value in fields.items()}) for number, fields in feed
        ] == (await entries(redis, keys.feed(COMMITTED)))
        changes = await entries(redis, keys.changes(0))
        numbers = [StreamId.parse(number).milliseconds for number, _ in changes]
        assert numbers == list(range(numbers[0], numbers[0] + 8))
        told = [{name: as_if_committed(value) for name, value in fields.items()} for _, fields in changes]
        assert told[:4] == told[4:]
        view, other = [
            cast("dict[bytes, bytes]", await redis.hgetall(keys.view(topic))) for topic in (WRITTEN, COMMITTED)
        ]
        assert view.pop(b"version") != other.pop(b"version")
        assert {name: as_if_committed(value) for name, value in view.items()} == other
        assert publisher.cursor(0) == f"{epoch_of(0, view[b'first'].decode())}.4"


def test_every_event_can_be_told_from_all_others() -> None:
    assert token(7) in data(0, 7)
    assert token(8) not in data(0, 7)
    assert data(0, 7).count(b"~") == 1
