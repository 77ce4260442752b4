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


async def test_viewers_of_an_erased_user_are_told_that_there_is_nothing_any_more_and_others_go_on(
    api: Api, producer: Producer, admin: Admin
) -> None:
    await producer.progress("hers", 10, 20, user_id="carol")
    await producer.progress("other", 30)
    async with api.watching("/stream/workflow/hers") as watched, api.watching("/stream/workflow/other") as other:
        first = await watched.next()
        assert first.data["view"]["progress"] == 20
        await other.next()
        assert await admin("erase", "carol", "--confirm", "erase user carol") == 0
        reset = (await watched.until(lambda frame: frame.event == "reset"))[-1]
        assert reset.data["view"] is None
        await producer.progress("other", 50)
        assert "reset" not in [frame.event for frame in await other.until(lambda frame: frame.pos == 2)]
        await producer.progress("hers", 60, user_id="carol")
        again = (await watched.until(lambda frame: frame.event == "workflow_progress" and frame.pos == 1))[-1]
        assert again.data["progress"] == 60
    async with api.watching(f"/stream/workflow/hers?cursor={first.id}") as resumed:
        assert "reset" in [frame.event for frame in await resumed.until(lambda frame: frame.event == "reset")]
    assert (await api.client.get("/views/workflow/hers")).json()["view"]["progress"] == 60


async def test_who_shared_a_topic_with_an_erased_user_is_shown_what_is_left(
    api: Api, producer: Producer, admin: Admin
) -> None:
    topic = Topic("default", "workflow", "shared")
    await producer.progress("shared", 10, user_id="carol")
    await producer.redis.unlink(producer.keys.source_of("workflow_progress", topic).owner(topic))  # it expires
    await producer.progress("shared", 20, user_id="bob")
    await producer.progress("bobs", 30, user_id="bob")
    async with api.watching("/stream/user/bob") as watched:
        assert {"shared", "bobs"} <= set(str((await watched.next()).data["view"]).split("'"))
        assert await admin("erase", "carol", "--confirm", "erase user carol") == 0
        await producer.progress("bobs", 40, user_id="bob")
        shown = await watched.until(lambda frame: frame.pos == 2)
        assert "reset" in [frame.event for frame in shown]
        assert shown[-1].data["progress"] == 40
        assert "shared" not in str([frame.data for frame in shown])
