"""Viewers that stop reading while large events flow, beside others that read all along."""

from collections.abc import Callable
from pathlib import Path

from services.api.channel import RUN_BYTES
from services.api.outlets import HIGH_WATER
from services.standalone.embedded import Server
from tests.faults.history import Told
from tests.faults.large_stories import EVENT_BYTES, LARGE_TOPICS
from tests.faults.round import Round, round_of
from tests.faults.scale import Scale
from tests.faults.viewer import Viewer

Tell = Callable[[list[str]], None]

RATE = 40
"""Large events a second: 2 MB. The system itself takes some of them for each who does not read."""

NAPS, NAP_SECONDS, AWAKE_SECONDS = 3, 3.0, 1.0
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "16384"}
"""Has the C library return large pieces as they are freed, so that what a process has is what it holds."""

WAITING_BYTES = HIGH_WATER + RUN_BYTES + 2 * EVENT_BYTES
"""For one viewer: what it may have at most, and a write that goes above it, which ends with a whole event."""

OTHER_BYTES = 4 * 1024 * 1024
"""What the api takes meanwhile for everything else."""


async def test_who_stops_reading_is_told_what_it_missed_and_costs_the_others_nothing(
    tmp_path: Path, own_redis: Server, scale: Scale, seed: int, tell: Tell
) -> None:
    """Some sleep now and then, some all the while, which is longer than any feed in memory goes back."""
    async with round_of(tmp_path, scale, seed, own_redis.address, **GIVE_BACK) as it:
        await it.load_with_large_events(RATE)
        readers = [one for topic in LARGE_TOPICS for one in await it.crowd.come(topic)]
        napping = [one for topic in LARGE_TOPICS for one in await it.crowd.come(topic, sleepy=True)]
        sleeping = [one for topic in LARGE_TOPICS for one in await it.crowd.come(topic, 2, sleepy=True)]
        await it.crowd.have_come([*readers, *napping, *sleeping])
        await it.load(scale.seconds)
        before = it.apis[0].private_bytes()
        grown: list[int] = []
        async with it.crowd.asleep(sleeping):
            for _ in range(NAPS):
                async with it.crowd.asleep(napping):
                    await it.load(NAP_SECONDS)
                    grown.append(it.apis[0].private_bytes() - before)
                await it.load(AWAKE_SECONDS)
        tell([*await it.finish(), f"memory of the api grew by {max(grown) / 2**20:.1f} MiB"])
    _assert_only_these_were_slow(it, [*napping, *sleeping])
    assert {one.name for one in sleeping} <= _slow(it)
    assert max(grown) < WAITING_BYTES * len([*napping, *sleeping]) + OTHER_BYTES


def _slow(it: Round) -> set[str]:
    return {one.viewer for one in it.history.happenings if isinstance(one, Told)}


def _assert_only_these_were_slow(it: Round, viewers: list[Viewer]) -> None:
    assert _slow(it) <= {one.name for one in viewers}
    assert {one.reason for one in it.history.happenings if isinstance(one, Told)} == {"slow"}
