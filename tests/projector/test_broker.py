"""Reading for the group when Redis answers with errors."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import ClusterDownError, ReadOnlyError, ResponseError

from services.projector.broker import LONGEST_PAUSE, PatientReader


class Client:
    """Answers reads with these, one after the other, then with the last one again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.reads = 0

    async def xreadgroup(self, **arguments: Any) -> Any:
        assert arguments["streams"] == {"s": ">"}
        self.reads += 1
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
            await reader.xreadgroup(streams={"s": ">"})
    assert 2 <= client.reads <= 4
    assert LONGEST_PAUSE < 5


async def test_reading_goes_on_when_the_error_is_over() -> None:
    client, reader = reading(ReadOnlyError("replica"), [["s", []]])
    assert await reader.xreadgroup(streams={"s": ">"}) == [["s", []]]
    assert client.reads == 2


async def test_a_group_that_is_gone_is_told_so_that_it_can_be_made_again() -> None:
    _, reader = reading(ResponseError("NOGROUP No such key"))
    with pytest.raises(ResponseError, match="NOGROUP"):
        await reader.xreadgroup(streams={"s": ">"})
