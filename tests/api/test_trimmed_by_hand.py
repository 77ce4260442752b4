"""The log is trimmed by hand under load, as the specification shows it: viewers are told, and see what comes then."""

import asyncio

from prometheus_client import REGISTRY

from pipai_contracts.events import WorkflowProgress
from tests.api.conftest import Producer, Serve
from tests.api.stream import Frame
from tests.conftest import wait_until
from tests.projector.fresh_fold import is_projected

CALLS, EVENTS = 20, 150


def _lost() -> float:
    return REGISTRY.get_sample_value("pipai_lost_events_total", {"source": "workflow:progress"}) or 0


async def _publish(producer: Producer) -> None:
    """More than a projector takes in at once, of the watched workflow and of others."""
    source = producer.keys.source("workflow:progress", 0)
    for call in range(CALLS):
        await producer.publish(
            *(
                WorkflowProgress(workflow_id=f"w{number % 10}", step="work", progress=call, message=str(number))
                for number in range(EVENTS)
            )
        )
        await producer.redis.xtrim(source.key, maxlen=100, approximate=False)
        await asyncio.sleep(0)


def _is_the_end(frame: Frame) -> bool:
    return frame.event == "workflow_progress" and frame.data["progress"] == 100


def _assert_no_unexplained_gap(frames: list[Frame], known: int) -> None:
    """Positions rise by one from the one that is known, but for what a reset tells."""
    for frame in frames:
        if frame.event == "reset":
            known = frame.pos
        elif frame.id is not None:
            assert frame.pos == known + 1, frame.raw
            known = frame.pos


async def test_a_log_trimmed_by_hand_under_load_heals(serve: Serve, producer: Producer) -> None:
    before = _lost()
    async with serve() as api:
        await wait_until(api.ready)
        await producer.progress("w0", 1)
        async with api.watching("/stream/workflow/w0") as stream:
            await stream.next()
            await _publish(producer)
            await wait_until(lambda: is_projected(producer.redis, producer.keys))
            for number in range(10):
                await producer.progress(f"w{number}", 99)
            await producer.progress("w0", 100, result={"right": True})
            frames = await stream.until(_is_the_end)

    lost = _lost() - before
    assert 0 < lost <= CALLS * EVENTS
    assert "reset" in [frame.event for frame in frames]
    assert frames[-1].data["result"] == {"right": True}
    _assert_no_unexplained_gap(frames[1:], known=1)
    positions = [await producer.pos("workflow", f"w{number}") for number in range(10)]
    assert sum(positions) == CALLS * EVENTS - lost + 1 + 10 + 1
