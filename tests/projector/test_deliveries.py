"""Batches on their way from FastStream to a follower: one after another, the next being read meanwhile."""

import asyncio
from collections.abc import Sequence

from core.log.entry import Entry
from core.views.store import MAX_EVENTS_PER_COMMIT, commit_calls
from core.views.stored import FeedEntry, Update, unheard_of
from pipai_contracts.ids import Topic
from services.projector.deliveries import Deliveries, decode, parse


async def batch(number: int) -> list[Entry]:
    read = {"message_ids": [f"{number}-0".encode(), b"9-9"], "data": [{b"id": b"x"}, {}]}
    return await decode(await parse(read))


async def test_the_next_batch_is_asked_for_while_this_one_is_taken_and_waits_for_it() -> None:
    taken: list[int] = []
    go_on = asyncio.Semaphore(0)

    async def take(entries: Sequence[Entry]) -> None:
        await go_on.acquire()
        taken.append(entries[0].stream_id.milliseconds)

    deliveries = Deliveries(take)
    await deliveries.handle(await batch(1))  # returns, though the batch is not taken yet: FastStream reads on
    second = asyncio.ensure_future(deliveries.handle(await batch(2)))
    await asyncio.sleep(0)
    assert not second.done()
    go_on.release()
    await second
    assert taken == [1]
    go_on.release()
    await deliveries.end()
    assert taken == [1, 2]


def test_a_commit_call_is_bounded_by_its_events_unless_one_view_has_more() -> None:
    def update(name: str, events: int) -> Update:
        topic = Topic("default", "workflow", name)
        before = unheard_of(topic)
        return Update(topic, before, before, [FeedEntry("workflow_progress", b"{}", "1-0")] * events)

    updates = [update("many", 3 * MAX_EVENTS_PER_COMMIT), *(update(f"w{at}", 200) for at in range(5))]
    calls = [[one.topic.id for one in call] for call in commit_calls(updates)]
    assert calls == [["many"], ["w0", "w1"], ["w2", "w3"], ["w4"]]
