"""Streams come down to their length without an event's help, and groups of others are waited for, not for ever."""

from typing import Any

import pytest
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from core.log.trim import Trimmer
from services.projector import retention
from services.projector.retention import Retention
from tests.conftest import wait_until
from tests.core.telling import step
from tests.projector.conftest import Deployment, counted
from tests.projector.fresh_fold import is_projected


def _retention(deployment: Deployment, **settings: Any) -> Retention:
    return Retention(deployment.redis, deployment.keys, deployment.settings.model_copy(update=settings))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_LOOK_EVERY", 0.0)
    monkeypatch.setattr("core.log.groups._LOOK_EVERY", 0.0)


async def _projected(deployment: Deployment, count: int) -> None:
    """Publish this many events and have them projected; nothing is trimmed."""
    async with deployment.projecting(projector_batch=1000):
        for _ in range(count // 100):
            await deployment.publish(*(step(1, of=f"w{number}") for number in range(100)))
        await wait_until(lambda: is_projected(deployment.redis, deployment.keys))


async def test_a_stream_that_has_gone_quiet_is_brought_down_to_its_length(deployment: Deployment) -> None:
    await _projected(deployment, 2300)

    await _retention(deployment, stream_max_entries=50).look(deployment.source())

    assert await deployment.redis.xlen(deployment.source().key) == 50


async def test_a_quiet_stream_within_its_length_is_not_looked_at_again(deployment: Deployment) -> None:
    """An idle Redis may be billed by the command."""
    await _projected(deployment, 100)
    kept = _retention(deployment, stream_max_entries=50)
    await kept.look(deployment.source())
    before = (await deployment.redis.info("stats"))["total_commands_processed"]

    for _ in range(10):
        await kept.look(deployment.source())

    assert (await deployment.redis.info("stats"))["total_commands_processed"] - before == 1


async def test_events_since_then_make_it_looked_at_again(deployment: Deployment) -> None:
    kept = _retention(deployment, stream_max_entries=50)
    await kept.look(deployment.source())
    await _projected(deployment, 200)
    checkpoint = await deployment.checkpoints.load(deployment.source())

    await kept.after(deployment.source(), checkpoint)
    await deployment.publish(*(step(1) for _ in range(60)))
    async with deployment.projecting():
        await wait_until(lambda: is_projected(deployment.redis, deployment.keys))
    await kept.after(deployment.source(), await deployment.checkpoints.load(deployment.source()))
    assert await deployment.redis.xlen(deployment.source().key) == 110  # fewer than a hundred are not worth a trim

    await kept.look(deployment.source())
    assert await deployment.redis.xlen(deployment.source().key) == 50


async def test_what_is_in_no_view_yet_stays_however_long_the_stream(deployment: Deployment) -> None:
    await _projected(deployment, 100)
    await deployment.publish(*(step(1) for _ in range(200)))

    await _retention(deployment, stream_max_entries=50).look(deployment.source())

    assert await deployment.redis.xlen(deployment.source().key) == 200


async def test_a_group_that_fell_silent_is_told_once_and_left_behind(deployment: Deployment) -> None:
    source = deployment.source()
    await _projected(deployment, 100)
    await deployment.redis.xgroup_create(source.key, "mine", id="0")
    patient = _retention(deployment, stream_max_entries=20)
    await patient.look(source)
    assert await deployment.redis.xlen(source.key) == 100
    assert counted("pipai_held_entries") == 80

    before = counted("pipai_groups_left_behind_total")
    hasty = _retention(deployment, stream_max_entries=20, group_idle_limit=0)
    with capture_logs() as told:
        for _ in range(3):
            await hasty.look(source)
            await _projected(deployment, 100)
            await hasty.after(source, await deployment.checkpoints.load(source))

    assert counted("pipai_groups_left_behind_total") - before == 1
    assert [entry["group"] for entry in told if entry["event"] == "stream group left behind"] == ["mine"]
    assert await deployment.redis.xlen(source.key) == 20
    assert counted("pipai_held_entries") == 0


async def test_groups_of_others_fill_no_more_than_their_share(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "HELD_LIMIT", 30)
    source = deployment.source()
    await _projected(deployment, 100)
    await deployment.redis.xgroup_create(source.key, "mine", id="0")
    before = counted("pipai_taken_entries_total")

    await _retention(deployment, stream_max_entries=20).look(source)

    assert await deployment.redis.xlen(source.key) == 50
    assert counted("pipai_taken_entries_total") - before == 50


async def test_a_redis_that_refuses_to_trim_keeps_no_event_from_its_view(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise ResponseError("NOPERM no permission")

    monkeypatch.setattr(Trimmer, "trim", refuse)
    with capture_logs() as told:
        async with deployment.projecting():
            await deployment.publish(step(1))
            await deployment.settled()
            await deployment.publish(*(step(1) for _ in range(200)))
            await deployment.settled()

    failures = [entry for entry in told if entry["event"] == "stream cannot be kept at its bounds"]
    assert [entry["stream"] for entry in failures].count(deployment.source().key) == 1
    assert await deployment.pending() == 0
