"""How two places in one topic lie to each other. Pure."""

from pipai_contracts.cursor import Cursor
from pipai_contracts.frames import ResetReason


def is_beyond(cursor: Cursor, place: Cursor) -> bool:
    """Whether the cursor is further on than the place, in the same epoch."""
    return cursor.epoch == place.epoch and cursor.pos > place.pos


def is_at_least(place: Cursor, cursor: Cursor) -> bool:
    """Whether the place is as far as the cursor, or further, in the same epoch."""
    return place.epoch == cursor.epoch and place.pos >= cursor.pos


def follows(place: Cursor, cursor: Cursor) -> bool:
    """Whether the event at the place is the very next after the cursor."""
    return (place.pos == 1 and not cursor.epoch) or (place.epoch == cursor.epoch and place.pos == cursor.pos + 1)


def leads_to(place: Cursor, cursor: Cursor) -> bool:
    """Whether events lead from the place to the cursor, or they are the same."""
    return (
        place == cursor
        or (bool(cursor.pos) and place.pos == 0)
        or (place.epoch == cursor.epoch and place.pos <= cursor.pos)
    )


def why_apart(place: Cursor, cursor: Cursor) -> ResetReason | None:
    """Why no events lead from the place to where the store is; None when some may."""
    if place.pos == 0:
        return None
    if place.epoch != cursor.epoch:
        return "epoch"
    return "ahead" if place.pos > cursor.pos else None
