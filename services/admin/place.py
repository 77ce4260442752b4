"""From the old keys to the staged ones: checking, deleting, giving the new ones their names."""

from collections.abc import AsyncIterator
from typing import Any, Final, cast

from pydantic_core import to_json
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from core.log.keys import SOURCES, Keys, log_and_view_keys
from core.log.scan import keys_beginning, viewed_topics
from core.log.staging import placed, staged, staged_starts
from core.views.folds import decode_state, render
from pipai_contracts.ids import Topic
from services.admin.alone import StillAlone
from services.admin.command import RefusedError
from services.admin.foreign import ForeignKeys
from services.admin.progress import Progress

_PAGE: Final = 500


async def check_staged(redis: Redis, old: Keys, new: Keys, progress: Progress) -> None:
    """Check that all of the old is in the staged: every event, and every view exactly as it is shown.

    Raises:
        RefusedError: something is missing or different; nothing was deleted.
    """
    for stream in SOURCES:
        before = sum([await redis.xlen(old.source(stream, p).key) for p in range(old.partitions)])
        after = sum([await redis.xlen(staged(new.source(stream, p).key)) for p in range(new.partitions)])
        if before != after:
            raise RefusedError(
                f"{stream} has {before} entries, and {after} were copied: something was appended meanwhile; "
                f"stop it, then run this again. Nothing was deleted."
            )
    async for topic in viewed_topics(redis, old, foreign=ForeignKeys().note):
        await _check_view(redis, old, new, topic)
        progress.step()


async def _check_view(redis: Redis, old: Keys, new: Keys, topic: Topic) -> None:
    before = await _shown(redis, old.view(topic), old.feed(topic), topic)
    after = await _shown(redis, staged(new.view(topic)), staged(new.feed(topic)), topic)
    # A view may expire while it is looked at.
    if before != after and await redis.exists(old.view(topic)):
        raise RefusedError(f"the view of {topic.path} is not the same after the copy. Nothing was deleted.")


async def _shown(redis: Redis, view: str, feed: str, topic: Topic) -> tuple[bytes, bytes | None, int, bytes | None]:
    """What viewers see of the view and its feed."""
    state, pos = cast("list[bytes | None]", await redis.hmget(view, "state", "pos"))
    last = cast("list[Any]", await redis.xrevrange(feed, count=1))
    try:
        shown = to_json(render(decode_state(topic.kind, state or b"")))
    except ValueError:
        shown = state or b""
    return shown, pos, await redis.xlen(feed), last[0][0] if last else None


async def drop_staged(redis: Redis, prefix: str, still_alone: StillAlone) -> None:
    """Delete what a copy that was cut short left behind."""
    for start in staged_starts(prefix):
        async for page in _pages(keys_beginning(redis, start)):
            await still_alone()
            await _unlink(redis, page)


async def delete_old(redis: Redis, prefix: str, still_alone: StillAlone, progress: Progress) -> None:
    """Delete the log and the views of the old layout, whatever it was: all the staged keys are there."""
    names, starts = log_and_view_keys(prefix)
    await still_alone()
    await _unlink(redis, names)
    for start in starts:
        async for page in _pages(keys_beginning(redis, start)):
            await still_alone()
            await _unlink(redis, page)
            progress.step(len(page))


async def place_staged(redis: Redis, prefix: str, still_alone: StillAlone, progress: Progress) -> None:
    """Give every staged key its name; doing it again goes on."""
    for start in staged_starts(prefix):
        async for page in _pages(keys_beginning(redis, start)):
            await still_alone()
            for name in page:
                try:
                    await redis.rename(name, placed(name))
                except ResponseError as error:  # it expired, or was named twice
                    if "no such key" not in str(error):
                        raise
            progress.step(len(page))


async def _pages(names: AsyncIterator[str]) -> AsyncIterator[list[str]]:
    page: list[str] = []
    async for name in names:
        page.append(name)
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page


async def _unlink(redis: Redis, names: list[str]) -> None:
    """Delete each by itself: in a Cluster they are in different slots."""
    async with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.execute_command("UNLINK", name)  # of a Cluster's pipeline `unlink` is none of its queued commands
        await pipe.execute()
