"""How many viewers a process lets in."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from services.api import audience
from services.api.settings import ApiSettings
from tests.api.conftest import Api, Producer, Serve, serving
from tests.conftest import wait_until

ROOM = 5


async def test_those_who_come_at_once_do_not_get_in_beyond_the_limit(redis_url: str, key_prefix: str) -> None:
    """Each of them finds room when it asks; while their topics are looked up nobody is in yet."""
    settings = ApiSettings.model_validate(
        {"redis_url": redis_url, "key_prefix": key_prefix, "stream_max_connections": ROOM}
    )
    async with serving(settings) as api, AsyncExitStack() as stack:
        asked = (stack.enter_async_context(api.watching(f"/stream/workflow/{number}")) for number in range(4 * ROOM))
        answers = [stream.status for stream in await asyncio.gather(*asked)]
    assert sorted(answers) == [200] * ROOM + [503] * 3 * ROOM


async def test_who_waits_for_an_event_needs_room_too(serve: Serve, producer: Producer) -> None:
    await producer.progress("w", 1)
    async with serve(stream_max_connections=1) as api:
        async with api.watching("/stream/workflow/w") as stream:
            await stream.next()
            refused = await api.client.get("/events/workflow/w?after=1&wait=20")
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/full")
            assert (await api.client.get("/events/workflow/w")).status_code == 200, "who does not wait takes none"
        await wait_until(lambda: _lets_wait(api))


async def test_those_who_wait_at_once_do_not_get_in_beyond_the_limit_either(serve: Serve, producer: Producer) -> None:
    await producer.progress("w", 1)
    async with serve(stream_max_connections=ROOM) as api:
        wait = "/events/workflow/w?after=1&wait=20"
        asked = [asyncio.create_task(api.client.get(wait)) for _ in range(4 * ROOM)]
        await wait_until(lambda: sum(one.done() for one in asked) >= 3 * ROOM)
        await producer.progress("w", 2)
        answers = [answer.status_code for answer in await asyncio.gather(*asked)]
    assert sorted(answers) == [200] * ROOM + [503] * 3 * ROOM


async def _lets_wait(api: Api) -> bool:
    return (await api.client.get("/events/workflow/w?after=0&wait=20")).status_code == 200


async def test_a_process_lets_in_no_more_than_it_may_open_files(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audience, "max_open_files", lambda: 101)
    async with serve() as api, api.watching("/stream/workflow/a") as one:
        await one.next()
        answer = await api.client.get("/stream/workflow/b")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/full")
