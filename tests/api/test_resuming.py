"""Coming back with a cursor: nothing doubled, nothing missing, or a reset that says why."""

import pytest

from pipai_contracts.events import WorkflowProgress
from tests.api.conftest import Api, Producer


async def _positions(api: Api, target: str, headers: dict[str, str] | None = None, upto: int = 5) -> list[int]:
    """Positions of what comes after `connected`, up to one."""
    async with api.watching(target, headers) as stream:
        assert (await stream.next()).data["resumed"] is True
        frames = await stream.until(lambda frame: frame.pos == upto)
        assert {frame.event for frame in frames} == {"workflow_progress"}
        return [frame.pos for frame in frames]


async def _cursor(api: Api, pos: int) -> str:
    """The cursor of a position of workflow `w`."""
    cursor: str = (await api.client.get("/views/workflow/w")).json()["cursor"]
    return f"{cursor.partition('.')[0]}.{pos}"


async def test_one_goes_on_after_the_last_event_id(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2, 3, 4, 5)
    assert await _positions(api, "/stream/workflow/w", {"Last-Event-ID": await _cursor(api, 2)}) == [3, 4, 5]


async def test_one_goes_on_after_the_cursor_of_the_address(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2, 3, 4, 5)
    assert await _positions(api, f"/stream/workflow/w?cursor={await _cursor(api, 4)}") == [5]


async def test_the_header_wins_over_the_address(api: Api, producer: Producer) -> None:
    """A browser reconnects to the address it began with; only its header is up to date."""
    await producer.progress("w", 1, 2, 3, 4, 5)
    target = f"/stream/workflow/w?cursor={await _cursor(api, 1)}"
    assert await _positions(api, target, {"Last-Event-ID": await _cursor(api, 3)}) == [4, 5]


async def test_cursor_0_begins_at_the_first_event(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2, 3, 4, 5)
    assert await _positions(api, "/stream/workflow/w?cursor=0") == [1, 2, 3, 4, 5]
    assert await _positions(api, "/stream/workflow/w", {"Last-Event-ID": "0"}) == [1, 2, 3, 4, 5]


async def test_who_resumes_gets_no_view_and_no_latest_progress(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2)
    cursor = await _cursor(api, 2)
    async with api.watching("/stream/workflow/w", {"Last-Event-ID": cursor}) as stream:
        connected = await stream.next()
        assert (connected.data["view"], connected.data["resumed"], connected.id) == (None, True, cursor)
        await producer.progress("w", 3)
        assert (await stream.next()).pos == 3


async def test_a_long_history_comes_whole_and_goes_over_into_live_events(api: Api, producer: Producer) -> None:
    for start in range(0, 900, 100):
        await producer.progress("w", *[(start + at) / 10 for at in range(100)])
    async with api.watching("/stream/workflow/w?cursor=0") as stream:
        await stream.next()
        await producer.progress("w", 91, 92)
        frames = await stream.until(lambda frame: frame.pos == 902)
    assert [frame.pos for frame in frames] == list(range(1, 903))


@pytest.mark.parametrize("cursor", ["1234abcd.2", "ffffffff.1000000"])
async def test_a_cursor_of_another_epoch_is_reset_to_the_state(api: Api, producer: Producer, cursor: str) -> None:
    await producer.progress("w", 1, 2, 3)
    async with api.watching("/stream/workflow/w", {"Last-Event-ID": cursor}) as stream:
        connected = await stream.next()
        assert (connected.event, connected.id) == ("connected", cursor)
        reset = await stream.next()
        assert (reset.event, reset.data["reason"]) == ("reset", "epoch")
        assert reset.id == reset.data["cursor"] == await _cursor(api, 3)
        assert reset.data["view"]["progress"] == 3
        await producer.progress("w", 4)
        assert (await stream.next()).pos == 4


async def test_a_cursor_of_a_topic_that_is_gone_is_reset_to_nothing(api: Api, producer: Producer) -> None:
    async with api.watching("/stream/workflow/w", {"Last-Event-ID": "1234abcd.2"}) as stream:
        await stream.next()
        reset = await stream.next()
        assert (reset.event, reset.id, reset.data["view"]) == ("reset", "0", None)
        await producer.progress("w", 4)
        assert (await stream.next()).pos == 1


async def test_a_feed_that_no_longer_reaches_back_is_a_reset(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2, 3, 4, 5)
    topic_feed = f"{producer.keys.prefix}:feed:{{0}}:default:workflow:w"
    await producer.redis.xtrim(topic_feed, maxlen=2, approximate=False)
    for cursor in ("0", await _cursor(api, 2)):
        async with api.watching("/stream/workflow/w", {"Last-Event-ID": cursor}) as stream:
            await stream.next()
            reset = await stream.next()
            assert (reset.event, reset.data["reason"], reset.pos) == ("reset", "trimmed", 5)
    assert await _positions(api, "/stream/workflow/w", {"Last-Event-ID": await _cursor(api, 3)}) == [4, 5]


async def test_a_feed_without_its_newest_events_is_a_reset(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2, 3)
    await producer.redis.delete(f"{producer.keys.prefix}:feed:{{0}}:default:workflow:w")
    async with api.watching("/stream/workflow/w", {"Last-Event-ID": await _cursor(api, 1)}) as stream:
        await stream.next()
        assert (await stream.next()).data["reason"] == "trimmed"


async def test_a_cursor_ahead_of_the_feed_is_a_reset(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1, 2, 3)
    async with api.watching("/stream/workflow/w", {"Last-Event-ID": await _cursor(api, 9)}) as stream:
        await stream.next()
        reset = await stream.next()
        assert (reset.event, reset.data["reason"], reset.pos) == ("reset", "ahead", 3)
        await producer.progress("w", 4)
        assert (await stream.next()).pos == 4


async def test_what_is_no_cursor_is_refused_with_a_problem(api: Api) -> None:
    for cursor in ("x", "1", "-1", "abcdefgh.1", "1234abcd.0", "1234abcd.1x", "1234ABCD.1", "9" * 500):
        for where, answer in (
            ("query.cursor", await api.client.get("/stream/workflow/w", params={"cursor": cursor})),
            ("header.Last-Event-ID", await api.client.get("/stream/user/w", headers={"Last-Event-ID": cursor})),
        ):
            problem = answer.json()
            assert answer.status_code == problem["status"] == 400
            assert answer.headers["content-type"] == "application/problem+json"
            assert problem["type"] == "/problems/invalid-cursor"
            assert problem["errors"][0]["where"] == where
            assert len(answer.content) < 1000


async def test_an_empty_last_event_id_is_a_first_connection(api: Api, producer: Producer) -> None:
    await producer.publish(WorkflowProgress(workflow_id="w", step="s", progress=1))
    async with api.watching("/stream/workflow/w", {"Last-Event-ID": ""}) as stream:
        assert (await stream.next()).data["resumed"] is False
