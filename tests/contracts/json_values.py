"""JSON as producers send it, for property tests."""

from typing import Any

from hypothesis import strategies as st

_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**40), max_value=10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT
)

json_values: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)
metadata: st.SearchStrategy[dict[str, Any]] = st.dictionaries(_TEXT, json_values, max_size=5)


def nested(depth: int) -> Any:
    """A list in a list in a list … ``depth`` deep."""
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value
