"""A topic's state as this process last heard it from the store."""

from typing import NamedTuple

from pydantic_core import to_json

from core.views.folds import State, render
from core.views.stored import Snapshot
from pipai_contracts.cursor import Cursor
from pipai_contracts.ids import Topic
from pipai_contracts.views import TERMINAL, RunView
from services.api.latest import latest_progress


class Known(NamedTuple):
    """The view at ``cursor``, kept as what viewers are sent: ``view`` is JSON, ``latest`` the data of its progress.

    ``loaded`` is the clock of the event loop, in seconds. ``ended``: the topic's latest run is over.
    """

    cursor: Cursor
    view: bytes | None
    latest: bytes | None
    ended: bool
    loaded: float


def known_of(topic: Topic, snapshot: Snapshot, loaded: float) -> Known:
    """What the store said, at ``loaded``."""
    state = snapshot.state
    view = None if state is None else to_json(render(state))
    latest = latest_progress(topic, state) if isinstance(state, RunView) else None
    return Known(snapshot.cursor, view, latest, has_ended(state), loaded)


def has_ended(state: State | None) -> bool:
    """Whether the topic's latest run is over. A user's topic never is."""
    return isinstance(state, RunView) and state.status in TERMINAL
