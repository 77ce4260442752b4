"""What is kept does not grow with what happened: per user, and in bytes."""

from core.views.feeds import bound_changes
from pipai_contracts.ids import Topic
from pipai_contracts.views import UserView
from tests.conftest import wait_until
from tests.core.telling import analysis, notice, step
from tests.projector.conftest import Deployment
from tests.projector.fresh_fold import is_projected

ADA = Topic("default", "user", "ada")


async def _live(deployment: Deployment, first: int, last: int) -> None:
    """Workflows, files and notifications of one user; a third of the runs end."""
    for start in range(first, last, 100):
        numbers = range(start, start + 100)
        await deployment.publish(
            *(step(100 if number % 3 == 0 else 10, of=f"w{number}", message="m" * 50).by("ada") for number in numbers),
            *(analysis(10, of=f"f{number}").by("ada") for number in numbers),
            *(notice(f"note {number}") for number in numbers),
        )
    await wait_until(lambda: is_projected(deployment.redis, deployment.keys), 60)


async def _bytes(deployment: Deployment) -> dict[str, int]:
    keys = deployment.keys
    names = {"view": keys.view(ADA), "feed": keys.feed(ADA)}
    names |= {source.name: source.key for source in keys.sources()}
    return {name: await deployment.redis.memory_usage(key, samples=0) or 0 for name, key in names.items()}


async def test_a_user_with_more_and_more_workflows_takes_no_more_memory(deployment: Deployment) -> None:
    async with deployment.projecting(stream_max_entries=200, projector_batch=50):
        await _live(deployment, 0, 500)
        before = await _bytes(deployment)
        await _live(deployment, 500, 1500)
        after = await _bytes(deployment)

    assert all(after[name] <= 1.5 * before[name] for name in before), (before, after)
    user = await deployment.view("user", "ada")
    assert isinstance(user, UserView)
    assert len(user.workflows) == len(user.notifications) == 100


async def test_a_change_feed_of_large_events_is_halved_when_it_is_over_its_bytes(deployment: Deployment) -> None:
    async with deployment.projecting():
        await deployment.publish(*(step(1, of=f"w{number}", message="m" * 1000) for number in range(200)))
        await deployment.settled()
    key = deployment.keys.changes(0)
    size = await deployment.redis.memory_usage(key) or 0

    assert await bound_changes(deployment.redis, deployment.keys, 0, most_bytes=size + 100_000) == 0
    assert await bound_changes(deployment.redis, deployment.keys, 0, most_bytes=size // 2) == 100

    assert await deployment.redis.xlen(key) == 100


async def test_a_feed_of_large_events_is_shorter_than_one_of_small_events(deployment: Deployment) -> None:
    async with deployment.projecting():
        for number in range(100):
            await deployment.publish(step(number, metadata={"text": "x" * 250_000}))
        await wait_until(lambda: is_projected(deployment.redis, deployment.keys), 30)
        key = deployment.keys.feed(Topic("default", "workflow", "w"))
        assert 60 <= await deployment.redis.xlen(key) <= 70

        await deployment.publish(*(step(1) for _ in range(50)))
        await wait_until(lambda: is_projected(deployment.redis, deployment.keys), 30)
        assert await deployment.redis.xlen(key) > 110
