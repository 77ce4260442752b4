"""Every printable id works from the address to the topic, in whatever way it is escaped."""

from urllib.parse import quote

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipai_contracts.ids import MAX_ID_LENGTH
from tests.api.conftest import Api, Producer

UNRESERVED = "-._~!$&'()*+,;=:@"
"""What may stand in a path segment as it is."""

IDS = st.text(st.characters(codec="utf-8").filter(str.isprintable), min_size=1, max_size=MAX_ID_LENGTH)


def _targets(name: str) -> list[bytes]:
    """The id in a path: as little escaped as is allowed, as usual, and every byte of it."""
    every_byte = "".join(f"%{byte:02x}" for byte in name.encode())
    forms = (quote(name, safe=UNRESERVED), quote(name, safe=""), every_byte)
    return [f"/stream/workflow/{form}".encode() for form in forms]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(IDS)
@example("/")
@example("%2F")
@example("%25")
@example("..")
@example(".")
@example("?x=1")
@example("#")
@example("+ +")
@example("e\u0301")
@example("{0}:w:x")
@example("0")
@example("\U0001f4a1" * MAX_ID_LENGTH)
async def test_an_id_is_the_same_however_it_is_escaped(api: Api, name: str) -> None:
    for target in _targets(name):
        async with api.watching(target) as stream:
            assert stream.status == 200
            assert (await stream.next()).data["id"] == name


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(IDS)
async def test_what_was_published_to_an_id_is_found_under_it(api: Api, producer: Producer, name: str) -> None:
    await producer.progress(name, 7)
    async with api.watching(_targets(name)[1]) as stream:
        connected = await stream.next()
        assert connected.data["view"]["id"] == name
        await producer.progress(name, 8)
        assert (await stream.until(lambda frame: frame.id is not None))[-1].data["workflow_id"] == name


async def test_what_is_not_printable_is_refused(api: Api) -> None:
    for name in ("%00", "%0A", "%7F", "%C2%85", "%ff", "x" * 201, "%E2%80%A8", "%ED%A0%80"):
        async with api.watching(f"/stream/workflow/{name}") as stream:
            assert stream.status == 422, name
            assert stream.headers["content-type"] == "application/problem+json"
