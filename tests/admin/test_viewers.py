"""Who watches a view while it is rebuilt is told, and nobody else is."""

import uuid

from pydantic_core import from_json, to_json

from pipai_contracts.ids import Topic
from tests.admin.conftest import Admin
from tests.api.conftest import Api, Producer, api, producer, serve

__all__ = ["api", "producer", "serve"]


async def damage(producer: Producer, workflow_id: str) -> None:
    key = producer.keys.view(Topic.parse(f"default:workflow:{workflow_id}"))
    state = from_json((await producer.redis.hget(key, "state")) or b"")
    await producer.redis.hset(key, "state", to_json({**state, "progress": 1}))
    await producer.redis.hset(key, "version", f"planted-{uuid.uuid4().hex}")


async def test_a_viewer_of_a_rebuilt_view_gets_the_state_and_goes_on(
    api: Api, producer: Producer, admin: Admin
) -> None:
    await producer.progress("w", 10, 20)
    await producer.progress("other", 30)
    await damage(producer, "w")
    async with api.watching("/stream/workflow/w") as watched, api.watching("/stream/workflow/other") as other:
        first = await watched.next()
        assert first.data["view"]["progress"] == 1
        assert (await other.next()).event == "connected"
        assert await admin("rebuild") == 0
        reset = (await watched.until(lambda frame: frame.event == "reset"))[-1]
        assert reset.data["view"]["progress"] == 20
        await producer.progress("w", 40)
        assert (await watched.until(lambda frame: frame.pos == 3))[-1].data["progress"] == 40
        await producer.progress("other", 50)
        assert "reset" not in [frame.event for frame in await other.until(lambda frame: frame.pos == 2)]
        async with api.watching(f"/stream/workflow/w?cursor={first.id}") as resumed:
            assert "reset" in [frame.event for frame in await resumed.until(lambda frame: frame.event == "reset")]
