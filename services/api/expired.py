"""Views that expired, or were lost, folded again from the history when somebody asks for them."""

import asyncio
from collections import OrderedDict
from typing import Final

from core.log.archive.archive import SlowSearchError
from core.runtime.problems import ProblemError
from core.views.refold import Refolder
from core.views.replace import MisfitViewError, MovingViewError
from pipai_contracts.ids import Topic

_AT_ONCE: Final = 2
"""Topics that are looked for at a time: each takes a thread."""

_SECONDS: Final = 20.0
_MOST_WAITING: Final = 50
_UNHEARD_SECONDS: Final = 60.0
"""How long a topic without a history is not looked for again: with its first event it has a view anyway."""

_MOST_UNHEARD: Final = 10_000


class ExpiredViews:
    """Brings views back, each once however many ask for it."""

    def __init__(self, refolder: Refolder) -> None:
        self._refolder = refolder
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._under_way: dict[Topic, asyncio.Task[bool]] = {}
        self._unheard: OrderedDict[Topic, float] = OrderedDict()

    async def bring_back(self, topic: Topic) -> bool:
        """Fold the topic's view again, which has none; False: there is no event of it.

        Raises:
            redis.exceptions.RedisError: Redis did not answer.
            ProblemError: too many are asked for already (503).
            StoreAwayError, SegmentFileError, SlowSearchError: the archive fails.
        """
        now = asyncio.get_running_loop().time()
        if self._unheard.get(topic, float("-inf")) > now - _UNHEARD_SECONDS:
            return False
        task = self._under_way.get(topic)
        if task is None:
            if len(self._under_way) >= _MOST_WAITING:
                what = "Too many topics without a view are being looked for in the history; come back later"
                raise ProblemError(503, "archive-slow", "The search takes too long", what, headers={"Retry-After": "5"})
            task = self._under_way[topic] = asyncio.create_task(self._fold(topic))
            task.add_done_callback(lambda _: self._under_way.pop(topic, None))
        found = await asyncio.shield(task)
        if not found:
            self._unheard[topic] = now
            self._unheard.move_to_end(topic)
            if len(self._unheard) > _MOST_UNHEARD:
                self._unheard.popitem(last=False)
        return found

    async def _fold(self, topic: Topic) -> bool:
        async with self._turns:
            try:
                async with asyncio.timeout(_SECONDS):
                    return await self._refolder.refold([topic], whole=True) > 0
            except TimeoutError as error:
                raise SlowSearchError from error
            except (MovingViewError, MisfitViewError):  # somebody else makes it just now
                return True
