"""The views a projector keeps in memory: those that were folded last, up to a number of them and of bytes."""

from collections import OrderedDict
from typing import Final

from core.views.stored import Stored
from pipai_contracts.ids import Topic

MAX_VIEWS: Final = 2_000

MAX_BYTES: Final = 8 * 1024 * 1024
"""Of stored states. In memory a large text takes as much, many small values up to 24 times as much."""


class ViewCache:
    """Views by topic, the one that was folded last at the end."""

    def __init__(self, max_views: int = MAX_VIEWS, max_bytes: int = MAX_BYTES) -> None:
        self._max_views = max_views
        self._max_bytes = max_bytes
        self._views: OrderedDict[Topic, tuple[Stored, int]] = OrderedDict()
        self.bytes = 0
        """Of what is kept, as far as it is known."""
        self.usual_bytes = 0.0
        """What the stored state of a view has, on average over the last hundred or so."""

    def __len__(self) -> int:
        return len(self._views)

    def __contains__(self, topic: Topic) -> bool:
        return topic in self._views

    def __getitem__(self, topic: Topic) -> Stored:
        return self._views[topic][0]

    def put(self, topic: Topic, view: Stored, grows: int) -> None:
        """Keep what a view became. How large it is shows when it is stored: until then it has grown by ``grows``."""
        size = self._views[topic][1] if topic in self._views else 0
        self._views[topic] = view, size + grows
        self._views.move_to_end(topic)
        self.bytes += grows

    def measured(self, topic: Topic, size: int) -> None:
        """Note how many bytes the stored state of a view has."""
        self.usual_bytes += (size - self.usual_bytes) / 100
        if topic in self._views:
            view, assumed = self._views[topic]
            self._views[topic] = view, size
            self.bytes += size - assumed

    def forget(self, topic: Topic) -> None:
        """Keep a view no longer."""
        _, size = self._views.pop(topic, (None, 0))
        self.bytes -= size

    def clear(self) -> None:
        """Keep none."""
        self._views.clear()
        self.bytes = 0

    def trim(self) -> None:
        """Let go of those that were folded longest ago, until the rest is within its bounds."""
        while self._views and (len(self._views) > self._max_views or self.bytes > self._max_bytes):
            _, (_, size) = self._views.popitem(last=False)
            self.bytes -= size
