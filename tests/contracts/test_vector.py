"""Places in many topics, as ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipai_contracts.cursor import START, Cursor
from pipai_contracts.ids import Topic
from pipai_contracts.vector import MAX_VECTOR, InvalidVectorError, Vector, fits, parse_topic, topic_id, vector_of

IDS = st.text(min_size=1, max_size=40).filter(str.isprintable)
TOPICS = st.builds(Topic, st.just("default"), st.sampled_from(["workflow", "file", "user"]), IDS)
CURSORS = st.just(START) | st.builds(Cursor, st.just("3f2a91bc"), st.integers(1, 10**15))


@given(TOPICS)
def test_a_topic_is_read_back_from_its_name(topic: Topic) -> None:
    assert parse_topic("default", topic.name) == topic


@pytest.mark.parametrize("name", ["", "workflow", "workflow:", "Workflow:x", "task:x", ":x", "user:\n"])
def test_what_names_no_topic_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"topic|must"):
        parse_topic("default", name)


@given(st.lists(TOPICS, min_size=1, max_size=5, unique=True), st.data())
def test_a_vector_is_read_back_and_is_safe_in_a_line_and_a_header(address: list[Topic], data: st.DataObject) -> None:
    watched = data.draw(st.dictionaries(st.sampled_from(address) | TOPICS, CURSORS | st.none(), max_size=6))
    text = str(vector_of(address, watched))
    assert text.isascii()
    assert text.isprintable()
    places = Vector.parse(text).of(address)
    assert places == {topic.name: cursor for topic, cursor in watched.items()}


@given(st.lists(TOPICS, min_size=1, max_size=20, unique=True), st.lists(TOPICS, max_size=20, unique=True))
def test_what_fits_is_never_too_long_to_come_back(address: list[Topic], others: list[Topic]) -> None:
    told = dict.fromkeys([*address, *others], Cursor("3f2a91bc", 10**16 - 1))
    text = str(vector_of(address, told))
    if fits(address, told):
        assert Vector.parse(text).of(address)
    assert fits(address, told) or len(text) > MAX_VECTOR // 2


def test_the_vector_of_a_connection_is_short() -> None:
    a, b, c = (Topic("default", "workflow", name) for name in "abc")
    added = Topic("default", "file", "x;y@é")
    told = {a: Cursor("3f2a91bc", 17), b: None, added: Cursor("00000000", 4)}
    assert str(vector_of([a, b, c], told)) == "3f2a91bc.17,*,-;file:x%3By%40%C3%A9@00000000.4"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "0,",
        "0;",
        "0;workflow:a",
        "0;workflow:a@1",
        "0;%FF@0",
        "-,?",
        "0;user:u@0;user:u@0",
        "0;user:u@-",
        "0" * 9_999,
    ],
)
def test_what_is_no_vector_is_refused(text: str) -> None:
    with pytest.raises(InvalidVectorError):
        Vector.parse(text)


def test_a_vector_of_another_address_is_refused() -> None:
    with pytest.raises(InvalidVectorError, match="2 cursors"):
        Vector.parse("0,0").of([Topic("default", "user", "u")])


def test_a_topic_of_the_address_cannot_be_added_to_it() -> None:
    with pytest.raises(InvalidVectorError, match="once more"):
        Vector.parse("-;user:u@0").of([Topic("default", "user", "u")])


def test_the_id_of_a_shared_frame_names_topic_and_cursor() -> None:
    assert topic_id(Topic("default", "user", "a@b"), Cursor("3f2a91bc", 2)) == "user:a@b@3f2a91bc.2"
