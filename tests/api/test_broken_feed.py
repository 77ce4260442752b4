"""A feed that another hand wrote to, and what nobody thought of: no viewer stays open that is told nothing any more."""

from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from pipai_contracts.ids import Topic
from services.api.sources import TopicSource
from tests.api.conftest import Api, Producer, Serve
from tests.conftest import wait_until

TOPIC = Topic("default", "workflow", "w")
UNREADABLE: list[dict[str, str]] = [
    {"foreign": "fields"},
    {"event": "workflow_progress", "data": "{}"},
    {"event": "workflow_progress", "data": "[]"},
    {"event": "workflow_progress", "data": "{"},
    {"event": "a\nb", "data": "{}"},
]
TARGETS = ("/stream/workflow/w?cursor=0", "/stream/workflow/w?from=2000-01-01T00:00:00Z", "/stream?topic=workflow:w")


async def _break_feed(producer: Producer, entry: dict[str, str]) -> None:
    """Put three such entries in the place of the feed's first three; their view is as it was."""
    key = producer.keys.feed(TOPIC)
    await producer.redis.delete(key)
    for pos in (1, 2, 3):
        await producer.redis.xadd(key, cast("dict[Any, Any]", entry), id=f"{pos}-0")
    await producer.redis.expire(key, 60)


@pytest.mark.parametrize("entry", UNREADABLE, ids=str)
async def test_what_the_feed_has_but_nobody_can_read_is_told_as_gone(
    serve: Serve, producer: Producer, entry: dict[str, str]
) -> None:
    await producer.progress("w", 1, 2, 3)
    cursor = (await producer.store.snapshot(TOPIC, 0)).cursor
    await _break_feed(producer, entry)
    async with serve() as api, api.watching(f"/stream/workflow/w?cursor={cursor.epoch}.1") as stream:
        await wait_until(api.ready)
        await stream.next()
        reset = await stream.next()
        assert (reset.event, reset.data["reason"], reset.pos) == ("reset", "trimmed", 3)
        assert reset.data["view"]["progress"] == 3
        await producer.progress("w", 4)
        assert (await stream.next()).pos == 4


@pytest.mark.parametrize("entry", [UNREADABLE[0], *UNREADABLE[2:4]], ids=str)
async def test_who_pages_through_it_is_told_where_to_go_on(api: Api, producer: Producer, entry: dict[str, str]) -> None:
    await producer.progress("w", 1, 2, 3)
    await _break_feed(producer, entry)
    refused = await api.client.get("/events/workflow/w")
    assert (refused.status_code, refused.json()["type"]) == (410, "/problems/cursor-expired")
    cursor = (await producer.store.snapshot(TOPIC, 0)).cursor
    assert str(cursor) in refused.json()["detail"]
    await producer.progress("w", 4)
    page = (await api.client.get("/events/workflow/w", params={"after": str(cursor)})).json()
    assert [event["pos"] for event in page["events"]] == [4]
    assert (await api.client.get("/views/workflow/w?at=2")).json()["view"]["progress"] == 2


@pytest.mark.parametrize("target", TARGETS)
async def test_whoever_cannot_be_brought_in_is_told_and_sent_away(
    serve: Serve, producer: Producer, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """Whatever the reason is: one who stays would get heartbeats, and never an event."""

    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("nobody thought of this")

    await producer.progress("w", 1, 2, 3)
    async with serve() as api:
        monkeypatch.setattr(TopicSource, "_page", fail)
        first = (await producer.store.snapshot(TOPIC, 0)).cursor._replace(pos=1)
        with capture_logs() as lines:
            headers = {"Last-Event-ID": str(first)} if target.startswith("/stream?") else None
            async with api.watching(target, headers) as stream:
                told = await stream.rest()
        assert (told[-1].event, told[-1].data["code"]) == ("error", "internal")
        assert [line["event"] for line in lines if line.get("log_level") == "error"] == ["stream cannot be joined"]
