"""Learning which node of a Cluster has which slots: once for everybody, and not without end."""

import asyncio
from collections.abc import Callable

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError  # noqa: A004

from core.runtime.redis import blocking_client, command_client
from tests.conftest import wait_until
from tests.shapes.servers import Shape

COMMANDS = 40


async def _read(client: Redis, number: int) -> object:
    return await client.get(f"no such key {number}")


async def test_nodes_that_are_away_are_asked_a_few_times_however_many_commands_fail() -> None:
    asked = 0

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.close()

    node = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with node:
        client = command_client(f"redis+cluster://127.0.0.1:{node.sockets[0].getsockname()[1]}")
        outcomes = await asyncio.gather(*(_read(client, n) for n in range(COMMANDS)), return_exceptions=True)
        await client.aclose()

    assert all(isinstance(outcome, ConnectionError) for outcome in outcomes)
    assert 0 < asked < COMMANDS


@pytest.mark.parametrize("cancelled", [0, 1, COMMANDS - 1])
async def test_commands_do_not_suffer_when_another_that_waits_for_the_slots_is_cancelled(
    start_once: Callable[[str], Shape], cancelled: int
) -> None:
    client = command_client(start_once("Cluster").address)
    commands = [asyncio.create_task(_read(client, n)) for n in range(COMMANDS)]
    await asyncio.sleep(0)
    commands[cancelled].cancel()

    await wait_until(lambda: all(command.done() for command in commands))
    await client.aclose()

    assert commands.pop(cancelled).cancelled()
    assert [command.result() for command in commands] == [None] * (COMMANDS - 1)


async def test_a_client_that_has_to_learn_the_slots_again_leaves_no_connection_open_when_it_is_closed(
    start_once: Callable[[str], Shape],
) -> None:
    """redis-py closes nothing then, so a client that is closed during a failover would leave connections behind."""
    shape = start_once("Cluster")
    before = _connections(shape)
    client = blocking_client(shape.address, 60_000)
    await asyncio.gather(*(_read(client, n) for n in range(COMMANDS)))
    reading = asyncio.ensure_future(client.xread({"no such stream": "0-0"}, block=60_000))
    readers: dict[int, str] = {}

    def is_reading() -> bool:
        readers.update(_readers(shape))
        return bool(readers)

    await wait_until(is_reading)
    for port, reader in readers.items():
        shape.ask(port, "CLIENT", "KILL", "ID", reader)
    with pytest.raises(ConnectionError):
        await reading
    assert _connections(shape) > before
    await client.aclose()

    await wait_until(lambda: _connections(shape) == before, message="connections are still open")


def _connections(shape: Shape) -> int:
    return sum(int(shape.ask(port, "INFO", "clients")["connected_clients"]) for port in shape.nodes)


def _readers(shape: Shape) -> dict[int, str]:
    """By port the id of the client that waits for a stream there."""
    told = {port: shape.ask(port, "CLIENT LIST") for port in shape.nodes}
    return {port: one["id"] for port, clients in told.items() for one in clients if one["cmd"] == "xread"}
