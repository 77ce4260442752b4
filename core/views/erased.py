"""What is left of a base when users were erased. Pure."""

from typing import Any

from pydantic_core import from_json

from core.log.archive.bases import Base
from core.log.tombstones import Hidden
from core.views.folds import decode_state, encode_state
from core.views.user import UserState, named, without
from pipai_contracts.record import StreamId


def left_of(base: Base | None, hidden: Hidden) -> Base | None:
    """The base without what is hidden; None when that is all of it.

    Of another user it is without the topics that were shared: what was counted of them stays counted.
    """
    if base is None or not hidden:
        return base
    topic = base.topic
    if hidden.hides(topic.tenant, topic.name, None, base.first.milliseconds):
        return None
    state = decode_state(topic.kind, base.state)
    if not isinstance(state, UserState):
        return base

    def is_gone(name: str, milliseconds: int) -> bool:
        return hidden.hides(topic.tenant, name, None, milliseconds)

    rest = without(state, is_gone)
    latest = b"" if base.latest and is_gone(*_latest(base)) else base.latest
    if rest is state and latest == base.latest:
        return base
    return base._replace(state=encode_state(rest), latest=latest)


def topics_in(base: Base) -> set[str]:
    """The names of the topics that a user's base tells of."""
    state = decode_state(base.topic.kind, base.state)
    return named(state) if isinstance(state, UserState) else set()


def _latest(base: Base) -> tuple[str, int]:
    """Of the last entry of a base's feed: the name of its topic, and when it was appended."""
    _, data, stream_id = from_json(base.latest)
    told: dict[str, Any] = from_json(data)
    name = next((f"{kind}:{told[f'{kind}_id']}" for kind in ("workflow", "file") if f"{kind}_id" in told), "")
    return name or base.topic.name, StreamId.parse(stream_id).milliseconds
