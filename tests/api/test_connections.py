"""Topics come and go on an open connection, whoever is asked, however slowly it reads, and nothing is told twice."""

import asyncio
import json
import time
from typing import Any

import pytest

from pipai_contracts.events import Metadata, WorkflowProgress
from services.api import connections, inbox
from services.api.many import ManyViewer
from services.api.messages import Message
from services.api.metrics import WATCHED_TOPICS
from services.api.sources import TopicSource
from tests.api.conftest import Api, Producer, Serve
from tests.api.stream import Frame, Stream
from tests.api.test_many import listed
from tests.conftest import wait_until

LARGE: Metadata = {"text": "x" * 60_000}


async def _asked(api: Api, connection_id: str, **change: Any) -> tuple[int, Any]:
    answer = await api.client.post(f"/stream/connections/{connection_id}/topics", json=change)
    return answer.status_code, answer.json()


async def _connection_id(stream: Stream) -> str:
    return (await stream.next()).data["connection_id"]


def _positions(frames: list[Frame], topic: str) -> list[int]:
    return [
        int(str(frame.id).rpartition(".")[2])
        for frame in frames
        if frame.event == "workflow_progress" and frame.data["topic"] == topic and frame.id is not None
    ]


async def test_topics_come_and_go_by_another_process_while_events_come_and_none_is_missed_or_told_twice(
    serve: Serve, producer: Producer
) -> None:
    rounds, each = 5, 30

    async def publish(begin: int) -> None:
        for at in range(begin, begin + each):
            await producer.publish(
                *(WorkflowProgress(workflow_id=name, step="s", progress=at / 4) for name in ("a", "b"))
            )

    async with serve() as one, serve() as two:
        await wait_until(one.ready)
        await wait_until(two.ready)
        async with listed(one, "workflow:a") as stream:
            connection_id = await _connection_id(stream)
            await stream.next()
            await wait_until(lambda: _knows_two(producer))
            frames: list[Frame] = []
            cursor = "0"
            for number in range(rounds):
                publishing = asyncio.create_task(publish(number * each))
                add = [{"topic": "workflow:b", "cursor": cursor}]
                answer = await _asked(two, connection_id, add=add, drop=["user:nobody"])
                assert answer == (200, {"topics": ["workflow:a", "workflow:b"]})
                frames += await stream.until(lambda frame: bool(_positions([frame], "workflow:b")))
                assert await _asked(two, connection_id, drop=["workflow:b"]) == (200, {"topics": ["workflow:a"]})
                frames += await stream.until(lambda frame: frame.event == "left")
                told = [str(frame.id) for frame in frames if _positions([frame], "workflow:b")]
                cursor = told[-1].rpartition("@")[2]
                await publishing
            await _asked(one, connection_id, add=[{"topic": "workflow:b", "cursor": cursor}])
            while min(len(_positions(frames, f"workflow:{name}")) for name in "ab") < rounds * each:
                frames.append(await stream.next())
    for name in "ab":
        assert _positions(frames, f"workflow:{name}") == list(range(1, rounds * each + 1))
    assert {frame.event for frame in frames} == {"joined", "left", "workflow_progress"}


async def _knows_two(producer: Producer) -> bool:
    return await producer.redis.hlen(producer.keys.connections) == 2


async def test_a_fetch_client_that_comes_and_goes_sees_every_position_of_each_topic_once(
    api: Api, producer: Producer
) -> None:
    count = 100
    places = {f"workflow:w{number}": "0" for number in range(4)}
    seen: dict[str, list[int]] = {topic: [] for topic in places}

    async def publish() -> None:
        for at in range(count):
            await producer.publish(
                *(WorkflowProgress(workflow_id=topic[9:], step="s", progress=at / 4) for topic in places)
            )

    publishing = asyncio.create_task(publish())
    while any(len(positions) < count for positions in seen.values()):
        wanted = [{"topic": topic, "cursor": cursor} for topic, cursor in places.items()]
        async with listed(api, *wanted) as stream:
            for _ in range(90):
                if all(len(positions) == count for positions in seen.values()):
                    break
                frame = await stream.next()
                if frame.event == "workflow_progress":
                    topic, _, cursor = str(frame.id).rpartition("@")
                    places[topic] = cursor
                    seen[topic] += _positions([frame], topic)
    await publishing
    assert seen == {topic: list(range(1, count + 1)) for topic in places}


async def test_a_topic_that_is_dropped_and_added_while_it_is_caught_up_with_is_told_once(
    api: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked, go_on = TopicSource.events, asyncio.Event(), asyncio.Event()

    async def read_late(*args: Any, **options: Any) -> list[Message]:
        asked.set()
        await go_on.wait()
        return await read(*args, **options)

    monkeypatch.setattr(TopicSource, "events", read_late)
    await producer.progress("a", *[at / 10 for at in range(500)])
    async with listed(api, "user:u") as stream:
        connection_id = await _connection_id(stream)
        await stream.next()
        add = [{"topic": "workflow:a", "cursor": "0"}]
        assert (await _asked(api, connection_id, add=add))[0] == 200
        await asked.wait()
        changing = asyncio.create_task(_asked(api, connection_id, add=add, drop=["workflow:a"]))
        await asyncio.wait([changing], timeout=0.2)
        go_on.set()
        assert (await changing)[0] == 200
        frames = await stream.until(lambda frame: frame.event == "left")
        assert _positions(frames, "workflow:a") == list(range(1, 501))
        await producer.progress("a", 95)
        frames = await stream.until(lambda frame: _positions([frame], "workflow:a") == [501])
        assert _positions(frames, "workflow:a") == list(range(1, 502))


@pytest.fixture
def viewers(monkeypatch: pytest.MonkeyPatch) -> list[ManyViewer]:
    """All viewers of many topics there were in this process, which the streams of a test are served by."""
    made: list[ManyViewer] = []

    class Noted(ManyViewer):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(connections, "ManyViewer", Noted)
    return made


async def test_who_does_not_read_has_little_waiting_and_all_topics_once_it_reads(
    api: Api, producer: Producer, viewers: list[ManyViewer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.2)
    names = [f"w{number}" for number in range(100)]
    await producer.publish(
        *(WorkflowProgress(workflow_id=name, step="s", progress=1, metadata=LARGE) for name in names)
    )
    await wait_until(lambda: producer.pos("workflow", names[-1]))
    body = json.dumps({"topics": [f"workflow:{name}" for name in names]}).encode()
    async with api.watching("/stream", {"Content-Type": "application/json"}, body=body, read=False) as sleeper:
        viewer = viewers[0]

        async def does_not_read() -> bool:
            """Of no effect if it is let through: until all buffers on the way are full, it is."""
            status, _ = await _asked(api, viewer.id, add=[f"workflow:{names[0]}"])
            return status == 503

        await wait_until(does_not_read)
        status, problem = await _asked(api, viewer.id, add=["user:u"])
        assert (status, problem["type"]) == (503, "/problems/connection-busy")
        assert len(viewer.waiting) > 20, "states were written to who does not read"
        sleeper.read()
        joined: set[str] = set()
        while len(joined) < len(names):
            joined.add((await sleeper.until(lambda frame: frame.event == "joined"))[-1].data["topic"])
        await producer.publish(*(WorkflowProgress(workflow_id=name, step="s", progress=2) for name in names))
        reached: set[str] = set()
        while len(reached) < len(names):
            frame = await sleeper.next()
            if frame.event == "workflow_progress" and frame.data["progress"] == 2:
                assert frame.id is not None
                reached.add(frame.data["topic"])
    assert "user:u" not in joined


async def test_who_stops_reading_for_a_while_goes_on_with_every_topic(
    api: Api, producer: Producer, viewers: list[ManyViewer]
) -> None:
    names = [f"w{number}" for number in range(10)]
    target = "/stream?" + "&".join(f"topic=workflow:{name}" for name in names)
    async with api.watching(target, read=False) as sleeper:
        await wait_until(lambda: viewers and not viewers[0].waiting and not viewers[0].catching_up)
        for at in range(30):
            for name in names:
                await producer.publish(WorkflowProgress(workflow_id=name, step="s", progress=at, metadata=LARGE))
        await wait_until(lambda: viewers[0].outlet.paused)
        await wait_until(lambda: all(viewers[0].told.values()))
        sleeper.read()
        for name in names:
            await producer.progress(name, 99)
        told: dict[str, int] = {}
        while sorted(told.values()) != [31] * len(names):
            frame = await sleeper.next()
            if frame.id is None or "topic" not in frame.data:
                continue
            topic = frame.data["topic"]
            cursor = str(frame.id).split(",")[names.index(topic[9:])]
            pos = int(cursor.rpartition(".")[2])
            if frame.event == "workflow_progress":
                assert pos == told.get(topic, 0) + 1
            told[topic] = pos


async def test_a_process_that_does_not_answer_is_503_and_what_was_asked_of_it_is_forgotten(
    api: Api, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "_ANSWER_SECONDS", 0.2)
    await wait_until(lambda: producer.redis.exists(producer.keys.connections))
    await producer.redis.hset(producer.keys.connections, "asleep", f"1 {time.time():.0f}")
    status, problem = await _asked(api, "asleep-1", add=["user:u"])
    assert (status, problem["type"]) == (503, "/problems/connection-busy")
    assert 0 < await producer.redis.ttl(producer.keys.inbox("asleep")) <= 60


async def test_a_letter_that_cannot_be_read_keeps_nobody_from_being_answered(serve: Serve, producer: Producer) -> None:
    async with serve() as one, serve() as two, listed(one, "user:u") as stream:
        connection_id = await _connection_id(stream)
        await wait_until(lambda: _knows_two(producer))
        for text in ("", "{}", '{"request": "x", "outcome": {}}', "\xff"):
            await producer.redis.rpush(producer.keys.inbox(connection_id.partition("-")[0]), text)
        assert (await _asked(two, connection_id, drop=["user:u"]))[1] == {"topics": []}


async def test_many_changes_need_no_more_connections_to_redis(serve: Serve, producer: Producer) -> None:
    async with serve() as one, serve() as two, listed(one, "user:u") as stream:
        connection_id = await _connection_id(stream)
        await wait_until(lambda: _knows_two(producer))
        await _asked(two, connection_id, add=["user:0"])
        before = len(await producer.redis.client_list())
        answers = await asyncio.gather(*(_asked(two, connection_id, add=[f"user:{number}"]) for number in range(60)))
        assert {status for status, _ in answers} == {200}
        assert len(await producer.redis.client_list()) - before < 30


async def test_names_too_long_for_the_ids_of_an_eventsource_are_refused_and_taken_where_the_client_keeps_places(
    api: Api,
) -> None:
    names = ["user:" + "\u20ac" * 190 + str(number) for number in range(5)]
    async with api.watching("/stream?topic=user:u") as stream, listed(api, "user:u") as other:
        status, problem = await _asked(api, await _connection_id(stream), add=names)
        assert (status, problem["errors"][0]["where"]) == (422, "body.add")
        status, answer = await _asked(api, await _connection_id(other), add=names)
        assert (status, answer["topics"]) == (200, ["user:u", *names])


async def test_a_connection_without_topics_stays_and_comes_back_as_such(api: Api) -> None:
    async with api.watching("/stream?topic=user:u") as stream:
        connection_id = await _connection_id(stream)
        assert await _asked(api, connection_id, drop=["user:u"]) == (200, {"topics": []})
        left = (await stream.until(lambda frame: frame.event == "left"))[-1]
    assert left.id == "-"
    async with api.watching("/stream?topic=user:u", {"Last-Event-ID": left.id}) as stream:
        connected = await stream.next()
        assert (stream.status, connected.data["topics"], connected.id) == (200, [], "-")
        assert (await _asked(api, connected.data["connection_id"], add=["user:u"]))[0] == 200
        assert (await stream.next()).id == "0"


async def test_all_topics_begin_where_the_address_or_the_body_says(api: Api, producer: Producer) -> None:
    await producer.progress("a", 1, 2)
    async with (
        api.watching("/stream?topic=workflow:a&from=beginning") as stream,
        listed(api, "workflow:a", **{"from": "2"}) as other,
    ):
        assert _positions(await stream.until(lambda frame: frame.data.get("progress") == 2), "workflow:a") == [1, 2]
        assert _positions(await other.until(lambda frame: frame.data.get("progress") == 2), "workflow:a") == [2]


async def test_temporal_is_asked_about_each_workflow(serve: Serve, temporal_address: str) -> None:
    target = "/stream?topic=workflow:a&topic=user:u&topic=workflow:b"
    async with serve(temporal_address=temporal_address) as api, api.watching(target) as stream:
        frames = [(await stream.until(lambda frame: frame.event == "temporal_status"))[-1] for _ in range(2)]
    assert [(frame.data["topic"], frame.data["workflow_id"], frame.id) for frame in frames] == [
        ("workflow:a", "a", None),
        ("workflow:b", "b", None),
    ]


async def test_each_topic_of_a_connection_counts_as_watched_until_it_goes(api: Api) -> None:
    before = _watched()
    async with listed(api, "user:u", "user:v") as stream:
        connection_id = await _connection_id(stream)
        assert _watched() == before + 2
        await _asked(api, connection_id, drop=["user:u"], add=["user:v", "user:w", "file:f"])
        assert _watched() == before + 3
    await wait_until(lambda: _watched() == before)


def _watched() -> float:
    return sum(sample.value for metric in WATCHED_TOPICS.collect() for sample in metric.samples)
