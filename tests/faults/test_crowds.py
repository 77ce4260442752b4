"""Hundreds of viewers of many topics, who are sent away or cut off together while events flow."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from services.standalone.embedded import Server
from tests.faults.crowd import MANY_TOPICS
from tests.faults.history import Connecting, Dismissed, Told
from tests.faults.round import Round, round_of
from tests.faults.scale import Scale

Tell = Callable[[list[str]], None]

STORMS = 3


async def test_viewers_who_are_all_cut_off_at_once_come_back_to_every_position_once(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    async with round_of(tmp_path, scale, seed, own_redis.address) as it:
        crowd = [one for topic in MANY_TOPICS for one in await it.crowd.come(topic, scale.crowd)]
        await it.crowd.have_come(crowd)
        for _ in range(STORMS):
            await it.load(scale.seconds / 2)
            async with it.fault("everybody is cut off"):
                it.crowd.cut()
        await it.load(scale.seconds)
        tell([*await it.finish(), f"{len(crowd)} viewers"])
    _assert_nobody_was_reset(it)
    assert min(_times_come(it).values()) > STORMS


async def test_viewers_whose_streams_have_lived_their_time_come_back_to_every_position_once(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    """Nobody breaks anything: streams that live for two seconds at most end as a matter of course."""
    brief = {"STREAM_LIFETIME": "2", "HEARTBEAT_INTERVAL": "1"}
    async with round_of(tmp_path, replace(scale, apis=2), seed, own_redis.address, **brief) as it:
        crowd = [one for topic in MANY_TOPICS for one in await it.crowd.come(topic, scale.crowd)]
        await it.crowd.have_come(crowd)
        await it.load(2.5 * scale.seconds)
        tell([*await it.finish(), f"{len(crowd)} viewers"])
    _assert_nobody_was_reset(it)
    sent_away = Counter(
        one.viewer for one in it.history.happenings if isinstance(one, Dismissed) and one.reason == "lifetime"
    )
    assert {one.name for one in crowd} <= sent_away.keys()


def _times_come(it: Round) -> Counter[str]:
    return Counter(one.viewer for one in it.history.happenings if isinstance(one, Connecting))


def _assert_nobody_was_reset(it: Round) -> None:
    """Nothing was lost, so there was no reason to."""
    assert [one for one in it.history.happenings if isinstance(one, Told)] == []
