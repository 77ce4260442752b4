"""Many topics on one connection."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest

from pipai_contracts.events import AnalysisProgress, Notification, WorkflowProgress
from tests.api.conftest import Api, Producer, Serve
from tests.api.stream import Frame, Stream
from tests.conftest import wait_until


@asynccontextmanager
async def listed(api: Api, *topics: Any, **asked: Any) -> AsyncGenerator[Stream]:
    """The stream a fetch client asks for."""
    body = json.dumps({"topics": topics, **asked}).encode()
    async with api.watching("/stream", {"Content-Type": "application/json"}, body=body) as stream:
        yield stream


async def _change(api: Api, connection_id: str, **change: Any) -> list[str]:
    answer = await api.client.post(f"/stream/connections/{connection_id}/topics", json=change)
    assert answer.status_code == 200, answer.text
    return answer.json()["topics"]


async def _take(stream: Stream, count: int) -> list[Frame]:
    return [await stream.next() for _ in range(count)]


def _of(frames: list[Frame], topic: str) -> list[Frame]:
    return [frame for frame in frames if frame.event and frame.data.get("topic") == topic]


async def test_an_eventsource_has_the_events_of_all_its_topics_each_with_the_name_of_its_own(
    api: Api, producer: Producer
) -> None:
    await producer.progress("a", 10)
    async with api.watching("/stream?topic=workflow:a&topic=file:b&topic=user:u") as stream:
        connected = await stream.next()
        assert connected.data["topics"] == ["workflow:a", "file:b", "user:u"]
        begun = await _take(stream, 4)
        assert [(frame.event, frame.data["topic"]) for frame in begun] == [
            ("joined", "workflow:a"),
            ("workflow_progress", "workflow:a"),
            ("joined", "file:b"),
            ("joined", "user:u"),
        ]
        assert begun[0].data["view"]["progress"] == 10
        assert begun[1].id is None
        await producer.publish(AnalysisProgress(file_id="b", step="s", progress=5), user_id="u")
        await producer.publish(Notification(user_id="u", title="t", message="m"))
        frames = await _take(stream, 3)
    assert sorted((frame.event, frame.data["topic"]) for frame in frames) == [
        ("analysis_progress", "file:b"),
        ("analysis_progress", "user:u"),
        ("notification", "user:u"),
    ]


async def test_an_eventsource_comes_back_to_its_place_in_every_topic(api: Api, producer: Producer) -> None:
    target = "/stream?topic=workflow:a&topic=workflow:b"
    async with api.watching(target) as stream:
        await stream.until(lambda frame: frame.event == "joined" and frame.data["topic"] == "workflow:b")
        await producer.progress("a", 1, 2)
        await producer.progress("b", 1)
        last = (await stream.until(lambda frame: frame.data["topic"] == "workflow:b"))[-1]
    await producer.progress("b", 2, 3)
    await producer.progress("a", 3)
    async with api.watching(target, {"Last-Event-ID": str(last.id)}) as stream:
        frames = await _take(stream, 6)
        told = [(frame.data["topic"], frame.data["progress"]) for frame in frames if frame.event == "workflow_progress"]
    assert told == [("workflow:a", 3), ("workflow:b", 2), ("workflow:b", 3)]
    assert all(frame.data["resumed"] for frame in frames if frame.event == "joined")


async def test_a_fetch_client_keeps_the_vector_itself(api: Api, producer: Producer) -> None:
    async with listed(api, "workflow:a", "workflow:b") as stream, listed(api, "workflow:b", "workflow:a") as other:
        for one in (stream, other):
            await _take(one, 3)
        await producer.progress("a", 1)
        await producer.progress("b", 1)
        first, second = await stream.next(), await stream.next()
        assert [(await other.next()).raw, (await other.next()).raw] == [first.raw, second.raw]
    assert str(first.id).startswith("workflow:a@")
    cursor = str(first.id).rpartition("@")[2]
    await producer.progress("a", 2)
    async with listed(api, {"topic": "workflow:a", "cursor": cursor}, "workflow:b") as stream:
        frames = await stream.until(lambda frame: frame.event == "joined" and frame.data["topic"] == "workflow:b")
    assert [(frame.event, frame.data.get("progress")) for frame in frames[1:-1]] == [
        ("joined", None),
        ("workflow_progress", 2),
    ]
    assert frames[-1].data["view"]["progress"] == 1


async def test_an_ended_run_does_not_end_the_connection_and_204_needs_all_of_them_ended(
    api: Api, producer: Producer
) -> None:
    await producer.progress("a", 100)
    await producer.progress("b", 100)
    a, b = [(await api.client.get(f"/views/workflow/{name}")).json()["cursor"] for name in "ab"]
    target = "/stream?topic=workflow:a&topic=workflow:b"
    assert (await api.client.get(target, headers={"Last-Event-ID": f"{a},{b}"})).status_code == 204
    async with api.watching(target, {"Last-Event-ID": f"{a},*"}) as stream:
        await stream.until(lambda frame: frame.event == "workflow_progress")
        await producer.progress("b", 0, run_id="next")
        assert (await stream.next()).data["run_id"] == "next"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["the same process", "another process"])
async def test_topics_are_added_and_dropped_while_events_come(
    serve: Serve, producer: Producer, *, elsewhere: bool
) -> None:
    await producer.progress("b", 1, 2)
    async with serve() as one, serve() as two:
        await wait_until(one.ready)
        await wait_until(two.ready)
        asked = two if elsewhere else one
        async with one.watching("/stream?topic=workflow:a") as stream:
            connection_id = (await stream.next()).data["connection_id"]
            await wait_until(lambda: _knows_two(producer))
            assert await _change(asked, connection_id, add=["workflow:b"]) == ["workflow:a", "workflow:b"]
            frames = await stream.until(lambda frame: frame.event == "workflow_progress")
            assert _of(frames, "workflow:b")[0].data["view"]["progress"] == 2
            await producer.progress("b", 3)
            third = await stream.next()
            assert (third.data["topic"], third.data["progress"]) == ("workflow:b", 3)
            assert await _change(asked, connection_id, drop=["workflow:a"]) == ["workflow:b"]
            assert (await stream.next()).event == "left"
            await producer.progress("a", 1)
            await producer.progress("b", 4)
            last = await stream.next()
            assert (last.data["topic"], last.data["progress"]) == ("workflow:b", 4)
        await producer.progress("b", 5)
        # The address still names `a`; the id says that it was dropped, and `b` added.
        async with two.watching("/stream?topic=workflow:a", {"Last-Event-ID": str(last.id)}) as stream:
            assert (await stream.next()).data["topics"] == ["workflow:b"]
            assert (await stream.next()).data["resumed"] is True
            assert (await stream.next()).data["progress"] == 5


async def _knows_two(producer: Producer) -> bool:
    return await producer.redis.hlen(producer.keys.connections) == 2


async def test_a_connection_that_is_not_there_is_404(serve: Serve, producer: Producer) -> None:
    async with serve() as one, serve() as two:
        async with one.watching("/stream?topic=workflow:a") as stream:
            gone = (await stream.next()).data["connection_id"]
        await wait_until(lambda: _knows_two(producer))
        await wait_until(lambda: _nobody(one))
        for api in (one, two):
            for connection_id in (gone, "nobody-1", "nobody", quote("…", safe="")):
                answer = await api.client.post(f"/stream/connections/{connection_id}/topics", json={"drop": ["user:u"]})
                assert answer.status_code == 404
                assert answer.json()["type"] == "/problems/unknown-connection"


async def _nobody(api: Api) -> bool:
    return await api.active_streams() == 0


@pytest.mark.parametrize(
    ("target", "headers", "status", "where"),
    [
        ("/stream", {}, 422, "query.topic"),
        ("/stream?topic=user:u&topic=none", {}, 422, "query.topic.1"),
        ("/stream?" + "&".join(f"topic=user:{number}" for number in range(21)), {}, 422, "query.topic"),
        ("/stream?topic=user:u&cursor=0,0", {}, 400, "query.cursor"),
        ("/stream?topic=user:u", {"Last-Event-ID": "x"}, 400, "header.Last-Event-ID"),
        ("/stream?topic=user:u&cursor=0;nothing@0", {}, 400, "query.cursor"),
        (
            "/stream?topic=user:u&cursor=0" + "".join(f";user:{number}@0" for number in range(20)),
            {},
            400,
            "query.cursor",
        ),
        ("/stream?topic=user:u&cursor=0;user:u@0", {}, 400, "query.cursor"),
        ("/stream?topic=user:u&throttle_ms=-1", {}, 422, "query.throttle_ms"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    api: Api, target: str, headers: dict[str, str], status: int, where: str
) -> None:
    answer = await api.client.get(target, headers=headers)
    assert answer.status_code == status
    assert answer.json()["errors"][0]["where"] == where


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"topics": []},
        {"topics": ["none"]},
        {"topics": [{"topic": "user:u", "cursor": "x"}]},
        {"topics": [f"user:{number}" for number in range(201)]},
        {"topics": ["user:u"], "types": ["none"]},
        {"topics": ["user:u"], "more": 1},
    ],
)
async def test_a_body_that_cannot_be_served_is_refused(api: Api, body: dict[str, Any]) -> None:
    answer = await api.client.post("/stream", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"]


async def test_more_topics_than_a_connection_may_have_change_nothing(api: Api, producer: Producer) -> None:
    async with listed(api, "workflow:a") as stream:
        connection_id = (await stream.next()).data["connection_id"]
        await stream.next()
        answer = await api.client.post(
            f"/stream/connections/{connection_id}/topics", json={"add": [f"user:{number}" for number in range(200)]}
        )
        assert answer.status_code == 422
        await producer.progress("a", 1)
        assert (await stream.next()).data["topic"] == "workflow:a"


async def test_streams_of_many_topics_are_shaped_too(api: Api, producer: Producer) -> None:
    async with listed(api, "workflow:a", "user:u", batch_ms=200, types=["workflow_progress"]) as stream:
        connected = await stream.next()
        assert connected.data["shaping"] == {"batch_ms": 200, "types": ["workflow_progress"]}
        await stream.until(lambda frame: frame.event == "joined" and frame.data["topic"] == "user:u")
        await producer.publish(Notification(user_id="u", title="t", message="m"))
        events = [WorkflowProgress(workflow_id="a", step="s", progress=at) for at in (1, 2, 3)]
        await producer.publish(*events)
        batch = (await stream.until(lambda frame: frame.event == "batch"))[-1]
    assert [(item["data"]["topic"], item["data"]["progress"]) for item in batch.data] == [
        ("workflow:a", 1),
        ("workflow:a", 2),
        ("workflow:a", 3),
    ]
    assert [item["id"] for item in batch.data][-1] == batch.id


async def test_who_comes_and_goes_on_many_topics_sees_every_position_of_each_once(api: Api, producer: Producer) -> None:
    names = [f"w{number}" for number in range(5)]
    target = "/stream?" + "&".join(f"topic=workflow:{name}" for name in names)
    count = 200

    async def publish() -> None:
        for at in range(count):
            await producer.publish(*(WorkflowProgress(workflow_id=name, step="s", progress=at / 4) for name in names))

    publishing = asyncio.create_task(publish())
    seen: dict[str, list[int]] = {f"workflow:{name}": [] for name in names}
    headers = {"Last-Event-ID": ",".join(["0"] * len(names))}
    while any(len(positions) < count for positions in seen.values()):
        async with api.watching(target, headers) as stream:
            for _ in range(150):
                if all(len(positions) == count for positions in seen.values()):
                    break
                frame = await stream.next()
                assert frame.event in {"connected", "joined", "workflow_progress"}
                headers = {"Last-Event-ID": str(frame.id)}
                if frame.event == "workflow_progress":
                    told = str(frame.id).split(",")[names.index(frame.data["workflow_id"])]
                    seen[frame.data["topic"]].append(int(told.rpartition(".")[2]))
    await publishing
    assert seen == {f"workflow:{name}": list(range(1, count + 1)) for name in names}
