"""What may be cached, and what never may."""

from typing import get_args

from jsonschema import Draft202012Validator

from pipai_contracts.events import EventType
from tests.api.conftest import Api, Producer, Serve


async def test_the_metadata_of_the_streams_can_be_cached_and_asked_for_again(serve: Serve) -> None:
    async with serve(reconnect_interval=1234, max_reconnect_attempts=7, heartbeat_interval=20) as api:
        answer = await api.client.get("/stream/metadata")
        again = await api.client.get("/stream/metadata", headers={"If-None-Match": f"W/{answer.headers['etag']}"})
    async with serve() as other:
        changed = await other.client.get("/stream/metadata", headers={"If-None-Match": answer.headers["etag"]})
    metadata = answer.json()
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert (metadata["reconnect_interval"], metadata["max_reconnect_attempts"], metadata["heartbeat"]) == (1234, 7, 20)
    assert set(metadata["events"]) == set(get_args(EventType))
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == answer.headers["etag"]
    assert changed.status_code == 200


async def test_every_event_on_the_wire_is_as_the_metadata_says(api: Api, producer: Producer) -> None:
    metadata = (await api.client.get("/stream/metadata")).json()
    schemas = metadata["events"] | metadata["control"]
    async with api.watching("/stream/workflow/w") as stream, api.watching("/stream/system") as system:
        await stream.next()
        await producer.progress("w", 10, 100, message="m", metadata={"a": [1]}, run_id="r")
        frames = [*stream.frames, await stream.next(), await stream.next(), await system.next(), await system.next()]
        for frame in frames[:-2] + frames[-1:]:
            assert frame.event is not None
            Draft202012Validator(schemas[frame.event]).validate(frame.data)
    assert set(metadata["kinds"]["workflow"]) == {"workflow_progress", "ai_progress", "temporal_status"}


async def test_what_comes_on_a_connection_of_many_topics_is_as_the_metadata_says(api: Api, producer: Producer) -> None:
    metadata = (await api.client.get("/stream/metadata")).json()
    schemas = metadata["events"] | metadata["control"]
    async with api.watching("/stream?topic=workflow:w&topic=file:f") as stream:
        for _ in ("connected", "joined", "joined"):
            await stream.next()
        await producer.progress("w", 10)
        await stream.next()
    told = [frame.event for frame in stream.frames]
    assert told == ["connected", "joined", "joined", "workflow_progress"]
    for frame in stream.frames:
        Draft202012Validator(schemas[str(frame.event)]).validate(frame.data)


async def test_a_stream_is_never_cached(api: Api) -> None:
    for path in ("/stream/workflow/w", "/stream/system"):
        async with api.watching(path) as stream:
            assert "no-store" in stream.headers["cache-control"]
            assert "etag" not in stream.headers
