"""Api processes that die, drain and are replaced while viewers watch."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from services.standalone.embedded import Server
from tests.faults.history import Connecting, Told
from tests.faults.round import Round, round_of
from tests.faults.scale import Scale

Tell = Callable[[list[str]], None]

VIEWERS = 10
"""Of each topic."""


async def test_viewers_of_an_api_that_is_killed_and_started_again_see_every_position_once(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    async with round_of(tmp_path, replace(scale, viewers=VIEWERS), seed, own_redis.address) as it:
        for _ in range(3):
            await it.load(scale.seconds)
            async with it.fault("kill -9 of the api"):
                await it.apis[0].kill()
                await it.apis[0].start()
                await it.apis[0].ready()
        await it.load(scale.seconds)
        tell(await it.finish())
    _assert_nobody_was_reset(it)


async def test_a_rolling_restart_of_two_apis_shows_no_gap_and_no_double(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    two = replace(scale, apis=2, viewers=VIEWERS)
    async with round_of(tmp_path, two, seed, own_redis.address, DRAIN_SECONDS="1") as it:
        for _ in range(2):
            for api in it.apis:
                await it.load(scale.seconds)
                async with it.fault("an api is replaced"):
                    await api.stop()
                    await api.start()
                    await api.ready()
        await it.load(scale.seconds)
        tell(await it.finish())
    _assert_nobody_was_reset(it)
    connections = [one for one in it.history.happenings if isinstance(one, Connecting)]
    assert len(connections) >= 2 * len(it.crowd.viewers), "everybody was sent away at least once"


async def test_an_api_that_stands_still_for_a_while_goes_on_without_a_gap(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    async with round_of(tmp_path, replace(scale, apis=2, viewers=VIEWERS), seed, own_redis.address) as it:
        for _ in range(2):
            await it.load(scale.seconds)
            async with it.fault("an api stands still"):
                it.apis[0].pause()
                await it.load(3)
                it.apis[0].resume()
        await it.load(scale.seconds)
        tell(await it.finish())
    _assert_nobody_was_reset(it)


def _assert_nobody_was_reset(it: Round) -> None:
    """Nothing was lost, so there was no reason to."""
    assert [one for one in it.history.happenings if isinstance(one, Told)] == []
