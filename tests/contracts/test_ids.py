"""Ids are any 1-200 printable characters, and topics are read back as they were written."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pipai_contracts.ids import DEFAULT_TENANT, KINDS, Kind, ResourceId, Tenant, Topic

printable_ids = st.text(alphabet=st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"], include_characters=" "))
resource_id = TypeAdapter[str](ResourceId)
tenant_name = TypeAdapter[str](Tenant)


@pytest.mark.parametrize("value", ["a", " ", "ü", "a:b", "{x}", "%2F/..", "日本", "🙂" * 200, "x" * 200])
def test_printable_ids_are_taken(value: str) -> None:
    assert resource_id.validate_python(value) == value


@pytest.mark.parametrize("value", ["", "x" * 201, "a\n", "\x00", "a\x1bb", "\u200b", "\u2028", "\ud800", "\u00a0"])
def test_other_ids_are_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        resource_id.validate_python(value)


@pytest.mark.parametrize("value", ["a", "A_b-9", "x" * 64])
def test_tenants_are_short_words(value: str) -> None:
    assert tenant_name.validate_python(value) == value


@pytest.mark.parametrize("value", ["", "x" * 65, "a:b", "a b", "ä", "a\n"])
def test_other_tenants_are_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        tenant_name.validate_python(value)


@given(st.sampled_from(KINDS), printable_ids.filter(lambda value: 1 <= len(value) <= 200))
@example("file", "workflow:a:b")
@example("user", ":")
def test_a_topic_is_read_back_from_its_path(kind: Kind, value: str) -> None:
    topic = Topic(DEFAULT_TENANT, kind, value)

    assert Topic.parse(topic.path) == topic


@pytest.mark.parametrize(
    "path", ["", "default", "default:workflow", "default:workflow:", "default:team:a", "a:file:\n"]
)
def test_a_path_that_names_no_topic_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"names no topic|must (be|have)"):
        Topic.parse(path)
