"""Views in memory are bounded, in number and in bytes, and what they are bounded by is what is stored."""

import pytest

from core.views.folds import encode_state
from core.views.stored import Stored, unheard_of
from pipai_contracts.ids import Topic
from services.projector import projection
from services.projector.cache import ViewCache
from tests.core.telling import step
from tests.projector.conftest import Deployment


def _topic(number: int) -> Topic:
    return Topic("default", "workflow", f"w{number}")


def _view(number: int) -> Stored:
    return unheard_of(_topic(number))


def test_the_views_that_were_folded_longest_ago_are_let_go_of() -> None:
    cache = ViewCache(max_views=3)
    for number in (1, 2, 3, 4, 1):
        cache.put(_topic(number), _view(number), 10)
    cache.trim()

    assert [number for number in range(5) if _topic(number) in cache] == [1, 3, 4]
    assert cache.bytes == 40


def test_what_is_kept_is_bounded_in_bytes_as_they_were_stored() -> None:
    cache = ViewCache(max_bytes=100)
    for number in range(3):
        cache.put(_topic(number), _view(number), 1)
    for number in range(3):
        cache.measured(_topic(number), 60)
    cache.trim()

    assert [number for number in range(3) if _topic(number) in cache] == [2]
    assert cache.bytes == 60


def test_a_view_that_is_too_large_by_itself_is_not_kept() -> None:
    cache = ViewCache(max_bytes=100)
    cache.put(_topic(1), _view(1), 101)
    cache.trim()

    assert len(cache) == cache.bytes == 0


def test_what_is_forgotten_counts_no_more() -> None:
    cache = ViewCache()
    for number in range(3):
        cache.put(_topic(number), _view(number), 10)
    cache.forget(_topic(1))
    cache.forget(_topic(1))
    cache.measured(_topic(1), 1000)
    assert cache.bytes == 20

    cache.clear()
    assert len(cache) == cache.bytes == 0


async def test_large_views_are_not_kept_beyond_the_bytes_and_small_ones_are(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred views of 200 KB pass through the memory of one megabyte."""
    caches: list[ViewCache] = []

    def make() -> ViewCache:
        caches.append(ViewCache(max_bytes=1024 * 1024))
        return caches[-1]

    monkeypatch.setattr(projection, "ViewCache", make)
    follower = await deployment.follower()
    for number in range(100):
        await deployment.publish(step(1, of=f"w{number}", metadata={"text": "x" * 200_000}))
    while entries := await deployment.deliver(count=10):
        await follower.take(entries)
        assert caches[0].bytes <= 1024 * 1024
        assert len(caches[0]) == 5
    await deployment.publish(*(step(2, of=f"small {number}").by("ada") for number in range(100)))
    await follower.take(await deployment.deliver(count=200))

    topics = [topic for topic in (Topic("default", "user", "ada"), *_small()) if topic in caches[0]]
    stored = await deployment.store.load(topics)
    assert len(topics) == 101
    assert caches[0].bytes <= 1024 * 1024
    assert sum(len(encode_state(view.state)) for view in stored.values()) <= caches[0].bytes


def _small() -> list[Topic]:
    return [Topic("default", "workflow", f"small {number}") for number in range(100)]
