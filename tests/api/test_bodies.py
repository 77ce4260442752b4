"""Bodies of requests: what is wrong with one is said, and none is without a bound."""

import json

import pytest

from pipai_contracts.many import ManyTopics
from services.api import bodies
from services.api.bodies import MAX_BODY_BYTES
from tests.api.conftest import Api


@pytest.mark.parametrize(
    ("body", "declared", "status", "where"),
    [
        (b"{", "application/json", 400, "body"),
        (b'{"topics": ["user:u", "none"]}', "application/json", 422, "body.topics.1.topic"),
        (b'{"topics": [{"topic": "user:u", "cursor": "x"}]}', "application/json", 422, "body.topics.0.cursor"),
        (b'{"topics": ["user:u"], "from": "x"}', "application/json", 422, "body.from"),
        (b'{"topics": ["user:u"]}', "text/plain", 415, "header.content-type"),
        (b" " * (MAX_BODY_BYTES + 1), "application/json", 413, "body"),
    ],
    ids=["no JSON", "no topic", "no cursor", "no beginning", "another type", "too long"],
)
async def test_a_body_is_refused_with_what_is_wrong_where(
    api: Api, body: bytes, declared: str, status: int, where: str
) -> None:
    answer = await api.client.post("/stream", content=body, headers={"Content-Type": declared})
    assert answer.status_code == status
    assert answer.json()["errors"][0]["where"] == where


async def test_a_body_that_does_not_come_is_not_waited_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "WHOLE", 0.1)
    headers = {"Content-Type": "application/json", "Content-Length": "10"}
    async with api.watching("/stream", headers, body=b"") as stream:
        assert stream.status == 408


def test_the_description_of_the_api_says_what_a_body_has() -> None:
    schema = bodies.described(ManyTopics)["requestBody"]["content"]["application/json"]["schema"]
    assert "$ref" not in json.dumps(schema)
    assert {"topics", "from", "throttle_ms", "batch_ms", "types"} == set(schema["properties"])
