"""The newest change this process knows of in each view partition: proof of which history it has seen."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from core.views.stored import Update

CHANGE_FEED: Final = "change_feed.lua"
"""What scripts that write to a change feed, or ask how far it is, begin with."""


class Change(NamedTuple):
    """An entry of a change feed: its number, and the event it tells of."""

    number: int
    topic: str
    pos: int
    stream_id: str


class NewestChanges:
    """Per view partition what was written there last. What others write meanwhile only makes numbers higher."""

    def __init__(self) -> None:
        self._newest: dict[int, Change] = {}

    def get(self, partition: int) -> Change | None:
        """The newest change of the partition; None while nothing is known."""
        return self._newest.get(partition)

    def written(self, partition: int, number: int, updates: Sequence[Update]) -> None:
        """Note a commit after which the change feed ends with ``number``; ``updates`` are those it wrote."""
        last = next((update for update in reversed(updates) if update.entries), None)
        known = self._newest.get(partition)
        if last is not None and (known is None or number > known.number):
            self._newest[partition] = Change(number, last.topic.path, last.after.pos, last.entries[-1].stream_id)

    def seen(self, partition: int, change: Change) -> None:
        """Note a change that was read."""
        self._newest[partition] = change

    def forget(self, partition: int) -> None:
        """Know nothing of the partition: others may write there from now on."""
        self._newest.pop(partition, None)
