"""What must be true of every view: its order, its positions, its runs, and that it is a fold."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, cast

from pydantic_core import from_json

from core.log.keys import partition_of
from core.views.folds import evolve, initial, render
from pipai_contracts.cursor import Cursor
from pipai_contracts.ids import Topic
from pipai_contracts.record import StreamId
from pipai_contracts.views import TERMINAL
from tests.faults.anomaly import Anomaly
from tests.faults.history import AnyHappening, Applied, Rest
from tests.faults.timeline import Timeline


def view_anomalies(put: Timeline, history: Sequence[AnyHappening]) -> Iterator[Anomaly]:
    """Whatever is wrong with a view, its feed, or its state at the end."""
    yield from _split_positions(put)
    for topic, lineage in put.lineage.items():
        yield from _order(put, topic, lineage)
        yield from _positions(put, topic, lineage)
        yield from _runs(topic, lineage)
    for happening in history:
        if isinstance(happening, Rest):
            yield from _fold(put, happening)


def _split_positions(put: Timeline) -> Iterator[Anomaly]:
    payloads: dict[tuple[str, str, int], tuple[str, str]] = {}
    for applied in put.everything:
        place = applied.topic, applied.epoch, applied.pos
        payload = applied.event, applied.data
        if payloads.setdefault(place, payload) != payload:
            yield Anomaly("split-position", f"{place} is {payloads[place]} and {payload}")


def _order(put: Timeline, topic: str, lineage: Sequence[Applied]) -> Iterator[Anomaly]:
    newest: dict[str, StreamId] = {}
    for applied in lineage:
        record = put.record(applied)
        if record is None:
            continue
        if record.stream_id < newest.get(record.source, StreamId(0, 0)):
            yield Anomaly("reordered", f"{topic} took {applied.stream_id} after {newest[record.source]}")
        newest[record.source] = record.stream_id


def _positions(put: Timeline, topic: str, lineage: Sequence[Applied]) -> Iterator[Anomaly]:
    partition = partition_of(Topic.parse(topic), put.keys.partitions)
    for pos, applied in enumerate(lineage, start=1):
        if applied.pos != pos:
            yield Anomaly("hole", f"{topic} is at {applied.pos} with its event number {pos}")
            return
    for before, after in pairwise(lineage):
        told = any(one.partition == partition and before.change < one.change < after.change for one in put.generations)
        if before.epoch != after.epoch and not told:
            yield Anomaly("untold-epoch", f"{topic} became {after.epoch} at {after.pos}, and nobody told")


def _runs(topic: str, lineage: Sequence[Applied]) -> Iterator[Anomaly]:
    """After its terminal event a run is over: what is not marked late then must begin another."""
    ended: str | None = None
    is_over = False
    if topic.split(":")[1] == "user":
        return
    for applied in lineage:
        if applied.event not in {"workflow_progress", "analysis_progress", "temporal_status"}:
            continue
        fields = cast("dict[str, Any]", from_json(applied.data))
        is_terminal = _is_terminal(applied.event, fields)
        if fields.get("late") or (applied.event == "temporal_status" and not is_terminal):
            continue
        run = cast("str | None", fields.get("run_id"))
        begins = run != ended if run is not None else fields.get("progress") == 0
        if is_over and not begins:
            yield Anomaly("late-terminal", f"{topic} counted {applied.data} after its run {ended} had ended")
        is_over, ended = is_terminal, run or ended


def _is_terminal(event: str, fields: dict[str, Any]) -> bool:
    if event == "temporal_status":
        return fields["status"] in TERMINAL
    return bool(fields["progress"] >= 100 or fields.get("canceled") or fields.get("error") is not None)


def _fold(put: Timeline, rest: Rest) -> Iterator[Anomaly]:
    topic = Topic.parse(rest.topic)
    lineage = put.lineage.get(rest.topic, [])
    if Cursor.parse(rest.cursor).pos != len(lineage):
        yield Anomaly("wrong-view", f"{rest.topic} is at {rest.cursor} with {len(lineage)} events")
        return
    state = initial(topic)
    for applied in lineage:
        record = put.record(applied)
        if record is not None:
            state = evolve(state, record)
    fold = render(state).model_dump_json()
    if fold != rest.view:
        yield Anomaly("wrong-view", f"{rest.topic} is {rest.view}, its fold {fold}")
