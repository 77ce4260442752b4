"""A cursor names an epoch and a position in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipai_contracts.cursor import START, Cursor, InvalidCursorError


@given(st.from_regex(r"[0-9a-f]{8}", fullmatch=True), st.integers(min_value=1, max_value=10**16 - 1))
def test_a_cursor_is_read_back_as_it_was_written(epoch: str, pos: int) -> None:
    assert Cursor.parse(str(Cursor(epoch, pos))) == Cursor(epoch, pos)


def test_zero_is_the_cursor_of_who_has_seen_nothing() -> None:
    assert str(START) == "0"
    assert Cursor.parse("0") == START


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "00",
        "3f2a91bc",
        "3f2a91bc.",
        "3f2a91bc.0",
        "3f2a91bc.01",
        "3f2a91bc.-1",
        "3f2a91bc.1\n",
        "3f2a91bc.\u0661",
        "3f2a91bc.99999999999999999",
        "3F2A91BC.1",
        "3f2a91b.1",
        " 3f2a91bc.1",
        "3f2a91bc.1.1",
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursorError, match="is not a cursor"):
        Cursor.parse(text)
