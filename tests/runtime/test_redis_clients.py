"""What the clients do beyond redis-py's own."""

import asyncio
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from core.runtime.lua import Script
from core.runtime.ports import free_port
from core.runtime.redis import ask_masters, blocking_client, command_client
from core.runtime.redis_packing import PackingConnection
from core.runtime.redis_sentinel import Sentinels


class Sentinel:
    """A sentinel that is slow to answer, or gone."""

    def __init__(self, *, there: bool) -> None:
        self.there = there
        self.asked = 0

    async def sentinel_masters(self) -> dict[str, Any]:
        self.asked += 1
        await asyncio.sleep(0)
        if not self.there:
            raise RedisConnectionError("gone")
        return {
            "main": {
                "ip": "10.0.0.1",
                "port": 1,
                "is_master": True,
                "is_sdown": False,
                "is_odown": False,
                "num-other-sentinels": 2,
            }
        }

    async def aclose(self) -> None:
        self.asked = -1


async def test_many_who_look_for_the_master_at_once_ask_once_and_no_sentinel_is_forgotten() -> None:
    sentinels = Sentinels([])
    those: list[Any] = [Sentinel(there=False), Sentinel(there=True), Sentinel(there=True)]
    sentinels.sentinels = list(those)

    places = await asyncio.gather(*(sentinels.discover_master("main") for _ in range(15)))

    assert set(places) == {("10.0.0.1", 1)}
    assert set(sentinels.sentinels) == set(those)
    assert [one.asked for one in those] == [1, 1, 0]
    await sentinels.aclose()
    assert [one.asked for one in those] == [-1, -1, -1]


async def test_a_short_command_makes_no_task(redis_url: str) -> None:
    made: list[object] = []

    def note(loop: asyncio.AbstractEventLoop, work: Any, **kwargs: Any) -> asyncio.Task[Any]:
        made.append(work)
        return asyncio.Task(work, loop=loop, **kwargs)

    async with command_client(redis_url) as redis:
        await redis.echo("connected")
        asyncio.get_running_loop().set_task_factory(note)
        assert await redis.echo("hello") == b"hello"
        assert made == []
        asyncio.get_running_loop().set_task_factory(None)


async def test_a_command_the_socket_does_not_take_at_once_arrives_whole(redis_url: str, key_prefix: str) -> None:
    large = b"x" * 20_000_000
    async with command_client(redis_url) as redis:
        assert await redis.echo(cast("str", large)) == large
        await redis.set(f"{key_prefix}:large", large, ex=60)
        assert await redis.strlen(f"{key_prefix}:large") == len(large)


async def test_a_connection_another_task_closes_in_the_middle_of_a_command_is_a_lost_one(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a client of a Cluster closes connections to a node that it takes for dead."""

    def unsent(_: object) -> int:
        return 1  # so that it has to be waited for

    monkeypatch.setattr("core.runtime.redis_packing._unsent", unsent)
    address = urlsplit(redis_url)
    connection = PackingConnection(host=address.hostname or "", port=address.port or 0, socket_timeout=5)
    await connection.connect()
    sending = asyncio.gather(
        connection.send_packed_command(connection.pack_command("PING"), check_health=False),
        connection.disconnect(nowait=True),
    )
    with pytest.raises(RedisConnectionError, match="closed the connection"):
        await sending


@pytest.mark.parametrize("form", ["redis://{}", "redis+cluster://{}", "redis+sentinel://{}/main"])
async def test_a_redis_that_is_away_is_a_lost_connection_whatever_its_shape(form: str) -> None:
    address = form.format(f"127.0.0.1:{free_port()}")
    for client in (command_client(address), blocking_client(address, 100)):
        with pytest.raises(RedisConnectionError):
            await client.get("x")
        with pytest.raises(RedisConnectionError):
            await ask_masters(client, "PING")
        with pytest.raises(RedisConnectionError):
            await _transact(client)
        await client.aclose()


async def _transact(client: Redis) -> None:
    async with client.pipeline(transaction=True) as pipe:
        pipe.get("x")
        await pipe.execute()


async def test_a_node_that_does_not_know_a_script_gets_its_text(redis_url: str) -> None:
    async with Redis.from_url(redis_url, protocol=2) as redis:
        script = Script(redis, "return {KEYS[1], ARGV[1]}")
        await redis.script_flush()
        assert await script(keys=["{a}"], args=[b"\xff"]) == [b"{a}", b"\xff"]
        assert await script(keys=["{a}"], args=[1]) == [b"{a}", b"1"]
