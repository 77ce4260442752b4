"""Change feed entries, as the hub hands them to viewers."""

from typing import Any, NamedTuple, cast

from pydantic_core import from_json

from pipai_contracts.cursor import Cursor
from pipai_contracts.frames import encode_frame
from pipai_contracts.ids import Topic
from pipai_contracts.views import TERMINAL


class Change(NamedTuple):
    """One event of a topic. ``frame`` is the same object for every viewer.

    ``ends``: it ended the topic's run (True), began or went on with one (False), or says nothing of it (None).
    """

    epoch: str
    pos: int
    frame: bytes
    ends: bool | None


def topic_of(fields: dict[bytes, bytes]) -> Topic | None:
    """The topic an entry of the change feed is about; None for one that raises the generation."""
    path = fields.get(b"topic", fields.get(b"rebuilt"))
    return None if path is None else Topic.parse(path.decode())


def is_rebuilt(fields: dict[bytes, bytes]) -> bool:
    """Whether the entry says that the topic's view was replaced as a whole: its positions begin anew."""
    return b"rebuilt" in fields


def change_of(fields: dict[bytes, bytes]) -> Change:
    """The event in an entry of the change feed."""
    epoch, pos, event = fields[b"epoch"].decode(), int(fields[b"pos"]), fields[b"event"].decode()
    return make_change(Cursor(epoch, pos), event, fields[b"data"])


def make_change(cursor: Cursor, event: str, data: bytes) -> Change:
    """The event that stands at ``cursor`` in its feed."""
    return Change(cursor.epoch, cursor.pos, encode_frame(event, data, frame_id=str(cursor)), _ends(event, data))


def _ends(event: str, data: bytes) -> bool | None:
    if event not in {"workflow_progress", "analysis_progress", "temporal_status"}:
        return None
    fields = cast("dict[str, Any]", from_json(data))
    if fields.get("late"):
        return None
    if event == "temporal_status":
        return True if fields["status"] in TERMINAL else None
    return bool(fields["progress"] >= 100 or fields.get("canceled") or fields.get("error") is not None)  # noqa: PLR2004 - percent
