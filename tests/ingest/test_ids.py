"""Ids hold any printable character, from the URL to the key and back."""

import asyncio
import json
from urllib.parse import quote, urlsplit

import httpx2
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipai_contracts.ids import Topic
from tests.ingest.conftest import Log

PRINTABLE = st.text(
    st.characters(exclude_categories=("C", "Z"), include_characters=" "), min_size=1, max_size=200
).filter(str.isprintable)


async def _post(address: str, target: str, body: bytes) -> tuple[int, bytes]:
    """Send a request whose target stays exactly as it is: clients would resolve ``..`` and re-encode."""
    parts = urlsplit(address)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"POST {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode("ascii") + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    status, _, rest = answer.partition(b"\r\n")
    return int(status.split()[1]), rest.partition(b"\r\n\r\n")[2]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PRINTABLE)
@example("a/b")
@example("/")
@example("%2F")
@example("100%")
@example("日本")
@example("{x}")
@example("..")
@example(".")
@example(" spaces  inside ")
@example("a?b#c&d=e+f;g")
@example("a:b:c")
@example("workflow:default:x")
@example("\\'\"`")
@example("👩\U0001f3fd")
async def test_every_printable_id_survives_the_way_to_its_key_and_back(
    client: httpx2.AsyncClient, log: Log, resource_id: str
) -> None:
    target = f"/stream/publish/workflow/{quote(resource_id, safe='')}"
    status, answer = await _post(
        str(client.base_url), target, json.dumps({"step": "s", "progress": 1, "user_id": resource_id}).encode()
    )

    assert status == 202, answer
    told = json.loads(answer)
    topic = Topic.parse(f"default:{told['topic']}")
    assert topic == Topic("default", "workflow", resource_id)
    source = log.keys.source_of("workflow_progress", topic)
    assert await log.redis.get(source.owner(topic)) == resource_id.encode()
    fields = (await log.events("workflow:progress"))[-1]
    assert fields["topic"] == topic.name
    assert json.loads(fields["data"])["workflow_id"] == resource_id


async def test_a_target_that_is_not_encoded_is_refused(client: httpx2.AsyncClient, log: Log) -> None:
    """Raw UTF-8 in a target is no URL; taking it as Latin-1 would make another id of it."""
    parts = urlsplit(str(client.base_url))
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    body = b'{"step":"s","progress":1}'
    writer.write(
        "POST /stream/publish/workflow/é HTTP/1.1\r\nhost: t\r\nconnection: close\r\n".encode()
        + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    )
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 400")
    assert await log.every_key() == {}
