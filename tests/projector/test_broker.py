"""Reading for the group when Redis answers with errors."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import ClusterDownError, ReadOnlyError, ResponseError

from services.projector.broker import LONGEST_PAUSE, PatientReader
from services.projector.reads import FIRST_COUNT, REPLY_BYTES


class Client:
    """Answers reads with these, one after the other, then with the last one again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.reads = 0
        self.count = 0

    async def xreadgroup(self, **arguments: Any) -> Any:
        assert arguments["streams"] == {"s": ">"}
        self.reads += 1
        self.count = arguments["count"]
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def reading(*answers: Any) -> tuple[Client, PatientReader]:
    client = Client(*answers)
    untyped: Any = client
    return client, PatientReader(untyped)


@pytest.mark.parametrize("error", [ReadOnlyError("replica"), ClusterDownError("down"), OSError("cut")])
async def test_an_error_of_a_failover_is_waited_out_without_a_hot_loop(error: Exception) -> None:
    client, reader = reading(error)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.7):
            await reader.xreadgroup(streams={"s": ">"}, count=2000)
    assert 2 <= client.reads <= 4
    assert LONGEST_PAUSE < 5


async def test_reading_goes_on_when_the_error_is_over() -> None:
    client, reader = reading(ReadOnlyError("replica"), [["s", []]])
    assert await reader.xreadgroup(streams={"s": ">"}, count=2000) == [["s", []]]
    assert client.reads == 2


async def test_a_group_that_is_gone_is_told_so_that_it_can_be_made_again() -> None:
    _, reader = reading(ResponseError("NOGROUP No such key"))
    with pytest.raises(ResponseError, match="NOGROUP"):
        await reader.xreadgroup(streams={"s": ">"}, count=2000)


class Backlog(Client):
    """Has as many events of a size as are asked for."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    async def xreadgroup(self, **arguments: Any) -> Any:
        self.count = arguments["count"]
        return [["s", [("1-0", {b"data": b"x" * self.size})] * self.count]]


async def counts(client: Client, reads: int) -> list[int]:
    """How many entries each of so many reads asks for."""
    untyped: Any = client
    reader, asked = PatientReader(untyped), list[int]()
    for _ in range(reads):
        await reader.xreadgroup(streams={"s": ">"}, count=2000)
        asked.append(client.count)
    return asked


async def test_reads_grow_while_events_are_small_and_all_of_them_come() -> None:
    assert await counts(Backlog(150), 7) == [100, 200, 400, 800, 1600, 2000, 2000]


async def test_reads_of_large_events_are_bounded_by_their_bytes() -> None:
    size = 256 * 1024
    asked = await counts(Backlog(size), 4)
    assert asked == [FIRST_COUNT, *[REPLY_BYTES // size] * 3]


async def test_reading_begins_small_again_when_nothing_waits() -> None:
    client = Backlog(150)
    untyped: Any = client
    reader = PatientReader(untyped)
    for _ in range(3):
        await reader.xreadgroup(streams={"s": ">"}, count=2000)
    untyped.xreadgroup = Client([]).xreadgroup
    assert await reader.xreadgroup(streams={"s": ">"}, count=2000) == []
    del untyped.xreadgroup
    await reader.xreadgroup(streams={"s": ">"}, count=2000)
    assert client.count == FIRST_COUNT
