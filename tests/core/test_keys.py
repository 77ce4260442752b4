"""Names of keys, partitions, and Redis Cluster slots."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from core.log.keys import SOURCES, Keys, partition_of
from pipai_contracts.ids import Kind, Topic
from tests.contracts.test_ids import printable_ids

_ids = printable_ids.filter(lambda text: 0 < len(text) <= 200)

topics = st.builds(
    Topic,
    st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True),
    st.sampled_from(["workflow", "file", "user"]),
    _ids,
)


def _slots(*names: str) -> set[int]:
    return {key_slot(name.encode()) for name in names}


@given(topics, st.sampled_from([1, 8]), printable_ids.filter(bool))
@example(Topic("default", "workflow", "}{"), 1, "{x}")
@example(Topic("default", "workflow", "{a}"), 8, "}")
def test_what_one_script_touches_lies_in_one_slot(topic: Topic, partitions: int, event_id: str) -> None:
    keys = Keys("pip-ai", partitions)
    source = keys.source_of("workflow_progress", topic)
    partition = partition_of(topic, partitions)

    assert len(_slots(source.key, source.offset, source.owner(topic), source.seen(topic, event_id))) == 1
    letters = (keys.dead(source), keys.parked(source), keys.redriven(source, "1-0"), keys.aside(source, "dead"))
    assert _slots(*letters) == _slots(source.key)
    views = (keys.view(topic), keys.feed(topic), keys.changes(partition), keys.generation(partition))
    assert len(_slots(*views, keys.checkpoint(partition))) == 1


@given(topics)
def test_every_topic_is_found_again_in_its_keys(topic: Topic) -> None:
    keys = Keys("pip-ai", 8)
    owner = keys.source_of("notification", topic).owner(topic)

    assert Topic.parse(owner.split(":owner:", 1)[1]) == topic
    assert Topic.parse(keys.view(topic).split("}:", 1)[1]) == topic


@given(topics, topics, printable_ids, printable_ids)
@example(Topic("t", "file", "a"), Topic("t", "file", "a:b"), "b:c", "c")
def test_two_events_never_share_the_key_that_tells_repeats(one: Topic, other: Topic, first: str, second: str) -> None:
    source = Keys().source("workflow:progress", 0)

    assert (source.seen(one, first) == source.seen(other, second)) == ((one, first) == (other, second))


@given(printable_ids, printable_ids, printable_ids, printable_ids)
@example("workflow_progress workflow:a", "workflow_progress workflow:a:b", "b:c", "c")
def test_two_requests_never_share_a_binding(one: str, other: str, first: str, second: str) -> None:
    keys = Keys()

    shared = keys.request("default", one, first) == keys.request("default", other, second)
    assert shared == ((one, first) == (other, second))


def test_all_that_projectors_share_lies_in_one_slot() -> None:
    keys = Keys("pip-ai", 8)

    assert len(_slots(keys.projectors, *(keys.lease(partition) for partition in range(8)))) == 1


def test_a_single_partition_has_the_keys_of_the_specification() -> None:
    assert [source.key for source in Keys().sources()] == [
        "pip-ai:workflow:progress",
        "pip-ai:analysis:progress",
        "pip-ai:ai:progress",
        "pip-ai:notifications",
    ]


def test_more_partitions_have_a_key_each() -> None:
    sources = Keys("pip-ai", 8).sources()

    assert len({source.key for source in sources}) == len({source.name for source in sources}) == 8 * len(SOURCES)
    assert sources[0].key == "pip-ai:workflow:progress:{0}"


@pytest.mark.parametrize(
    ("kind", "resource_id", "of_4", "of_8"),
    [("workflow", "w", 3, 7), ("file", "w", 3, 7), ("user", "ada", 0, 0), ("workflow", "日本", 3, 3)],
)
def test_partitions_never_change_their_topics(kind: Kind, resource_id: str, of_4: int, of_8: int) -> None:
    """A topic that moved would leave its view behind in the old partition."""
    topic = Topic("default", kind, resource_id)

    assert (partition_of(topic, 1), partition_of(topic, 4), partition_of(topic, 8)) == (0, of_4, of_8)


def test_only_the_few_bounded_keys_are_permanent() -> None:
    keys = Keys("pip-ai", 2)
    source = keys.source("workflow:progress", 1)
    topic = Topic("default", "workflow", "w")

    bounded = (source.key, source.offset, keys.changes(1), keys.dead(source), keys.parked(source))
    assert all(keys.is_permanent(key) for key in bounded)
    assert not any(keys.is_permanent(key) for key in (keys.view(topic), keys.feed(topic), source.owner(topic)))
