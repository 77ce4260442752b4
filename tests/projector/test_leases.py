"""Sharing out partitions: each to one projector, evenly, and without ado when one comes, goes or dies."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import cast

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from core.log.keys import Keys
from services.projector.lease import Leases
from tests.conftest import wait_until
from tests.projector.conftest import Deployment

LASTING = 30.0
SHORT = 0.5


class Player:
    """A projector without its projecting: it asks, and hands over at once what it is told to."""

    def __init__(self, redis: Redis, keys: Keys, seconds: float) -> None:
        self.leases = Leases(redis, keys, seconds=seconds)
        self.held: frozenset[int] = frozenset()

    async def ask(self) -> None:
        self.held, give, _ = await self.leases.share(sorted(self.held))
        if give is not None:
            await self.leases.release(give)
            self.held -= {give}

    async def leave(self) -> None:
        await self.leases.leave()
        for partition in self.held:
            await self.leases.release(partition)
        self.held = frozenset()


class Table:
    """Players that share the partitions of one deployment."""

    def __init__(self, redis: Redis, prefix: str, partitions: int) -> None:
        self.redis = redis
        self.keys = Keys(prefix, partitions)
        self.players: list[Player] = []

    def join(self, seconds: float = LASTING) -> Player:
        self.players.append(Player(self.redis, self.keys, seconds))
        return self.players[-1]

    def remove(self, player: Player) -> Player:
        self.players.remove(player)
        return player

    async def round(self, random: Random | None = None) -> list[frozenset[int]]:
        """Everybody asks; what each holds then."""
        for player in random.sample(self.players, len(self.players)) if random else self.players:
            await player.ask()
        return [player.held for player in self.players]

    async def rounds(self, count: int) -> list[int]:
        """How many partitions each holds after ``count`` rounds."""
        for _ in range(count):
            await self.round()
        return sorted(len(player.held) for player in self.players)

    async def holders(self) -> list[str | None]:
        """Who holds each partition, as Redis has it."""
        values = cast(
            "list[bytes | None]",
            await self.redis.mget([self.keys.lease(partition) for partition in range(self.keys.partitions)]),
        )
        return [value.decode() if value else None for value in values]

    async def is_whole(self) -> bool:
        """Everything is held, by one each, and nobody could give another a fairer share."""
        await self.round()
        counts = Counter(partition for player in self.players for partition in player.held)
        sizes = [len(player.held) for player in self.players]
        return counts == Counter(range(self.keys.partitions)) and max(sizes) - min(sizes) <= 1


@pytest.fixture
def table(deployment: Deployment) -> Callable[[int], Table]:
    return lambda partitions: Table(deployment.redis, deployment.keys.prefix, partitions)


async def test_a_projector_alone_gets_every_partition_at_once(table: Callable[[int], Table]) -> None:
    alone = table(4)
    alone.join()
    assert await alone.rounds(1) == [4]


@pytest.mark.parametrize(
    ("partitions", "projectors", "shares"),
    [
        (1, 3, [0, 0, 1]),
        (2, 3, [0, 1, 1]),
        (4, 3, [1, 1, 2]),
        (4, 2, [2, 2]),
        (8, 3, [2, 3, 3]),
        (256, 5, [51, 51, 51, 51, 52]),
    ],
)
async def test_those_who_come_get_a_fair_share_and_then_nothing_moves_any_more(
    table: Callable[[int], Table], partitions: int, projectors: int, shares: list[int]
) -> None:
    shared = table(partitions)
    shared.join()
    await shared.round()
    for _ in range(projectors - 1):
        shared.join()
    assert await shared.rounds(partitions + projectors) == shares
    assert await shared.is_whole()
    before = await shared.holders()
    await shared.rounds(5)
    assert await shared.holders() == before


async def test_one_partition_changes_hands_at_a_time(table: Callable[[int], Table]) -> None:
    shared = table(6)
    first = shared.join()
    await shared.round()
    second = shared.join()
    held = len(first.held)
    while len(second.held) < 3:
        await shared.round()
        assert held - len(first.held) <= 1
        held = len(first.held)


async def test_what_a_leaving_projector_held_is_claimed_by_who_asks_next(table: Callable[[int], Table]) -> None:
    shared = table(4)
    leaving = shared.join()
    shared.join()
    await shared.rounds(5)
    await shared.remove(leaving).leave()
    assert await shared.rounds(1) == [4]


async def test_a_projector_that_does_not_ask_loses_its_partitions_to_the_others(
    table: Callable[[int], Table],
) -> None:
    shared = table(4)
    silent = shared.join(SHORT)
    shared.join(SHORT)
    shared.join(SHORT)
    await wait_until(shared.is_whole)
    assert silent.held
    shared.remove(silent)
    await wait_until(shared.is_whole)
    await silent.ask()
    assert silent.held == frozenset()


async def test_nobody_gives_back_the_lease_of_another(table: Callable[[int], Table]) -> None:
    shared = table(1)
    holder, other = shared.join(), shared.join()
    await shared.round()
    await other.leases.release(0)
    assert await shared.holders() == [holder.leases.projector_id]


@pytest.mark.parametrize("lost", ["everything", "the leases", "the projectors"])
async def test_after_redis_lost_it_everybody_keeps_what_it_follows(table: Callable[[int], Table], lost: str) -> None:
    """Without that the first to come back would take all partitions, and give them back one by one."""
    shared = table(4)
    for _ in range(3):
        shared.join()
    await shared.rounds(8)
    before = [player.held for player in shared.players]
    leases = [shared.keys.lease(partition) for partition in range(4)]
    names = {"everything": [*leases, shared.keys.projectors], "the leases": leases}
    await shared.redis.delete(*names.get(lost, [shared.keys.projectors]))
    for _ in range(10):
        assert await shared.round() == before


async def test_what_nobody_came_back_for_is_taken_over_after_a_while(table: Callable[[int], Table]) -> None:
    shared = table(4)
    shared.join()
    gone = shared.join()
    await shared.rounds(6)
    shared.remove(gone)
    leases = [shared.keys.lease(partition) for partition in range(4)]
    await shared.redis.delete(*leases, shared.keys.projectors)
    assert await shared.rounds(2) == [2]
    assert await shared.rounds(5) == [4]


async def test_a_lease_of_another_type_is_replaced_and_said(table: Callable[[int], Table]) -> None:
    shared = table(2)
    shared.join()
    for key in (shared.keys.lease(1), shared.keys.projectors):
        await shared.redis.delete(key)
        await shared.redis.hset(key, "not", "ours")
    with capture_logs() as lines:
        assert await shared.rounds(2) == [2]
    assert {line["key"] for line in lines} == {shared.keys.lease(1), shared.keys.projectors}


async def test_whoever_comes_goes_or_dies_all_is_shared_out_again(table: Callable[[int], Table]) -> None:
    """At random, many times over; nobody is told of more than one owner at any moment."""
    shared, random = table(5), Random(3)
    shared.join(SHORT)
    for _ in range(25):
        if len(shared.players) == 1 or random.random() < 0.5:
            shared.join(SHORT)
        else:
            gone = shared.remove(random.choice(shared.players))
            if random.random() < 0.8:
                await gone.leave()
        for _ in range(random.randrange(3)):
            held = await shared.round(random)
            assert sum(len(part) for part in held) == len(frozenset[int]().union(*held))
    await wait_until(shared.is_whole)
