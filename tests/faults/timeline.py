"""A history put in order: what was published and how it was answered, and what every view took in."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from pydantic_core import from_json

from core.log.keys import Keys, Source
from pipai_contracts.envelope import Envelope, encode_data
from pipai_contracts.ids import DEFAULT_TENANT, Topic
from pipai_contracts.record import Record, StreamId
from tests.faults.history import Answered, AnyHappening, Applied, Fault, Generation, Invoked, Kept, Rewound

SUBJECT = {
    "workflow_progress": "workflow",
    "ai_progress": "workflow",
    "temporal_status": "workflow",
    "analysis_progress": "file",
    "notification": "user",
}
"""Event → the kind of topic it was published to; its data names the id as ``<kind>_id``."""


class Event(NamedTuple):
    """Which event it is: the topic it was published to, and its id there."""

    topic: str
    event_id: str


@dataclass
class Publication:
    """One event with all attempts to publish it."""

    envelope: Envelope | None
    invoked: list[Invoked] = field(default_factory=list[Invoked])
    answered: list[Answered] = field(default_factory=list[Answered])

    @property
    def oks(self) -> list[Answered]:
        """The attempts that were answered with a place in the log."""
        return [answer for answer in self.answered if answer.outcome == "ok"]


@dataclass
class Timeline:
    """``lineage``: what each view took in, in order, without what went back. ``everything``: also that."""

    keys: Keys
    publications: dict[Event, Publication]
    lineage: dict[str, list[Applied]]
    everything: list[Applied]
    generations: list[Generation]
    faults: list[Fault]
    kept: dict[str, frozenset[str]]

    @property
    def may_have_lost(self) -> bool:
        """Whether Redis itself was made to lose what it had acknowledged."""
        return any(fault.loses for fault in self.faults)

    def source(self, publication: Publication) -> Source:
        """Where the event was to be appended."""
        assert publication.envelope is not None
        return self.keys.source_of(publication.envelope.event.type, publication.envelope.topic)

    def record(self, applied: Applied) -> Record | None:
        """The applied event as it stood in the log; None for one that nobody published."""
        publication = self.publications.get(event_of(applied.event, applied.data))
        if publication is None or publication.envelope is None:
            return None
        envelope = publication.envelope
        source = self.source(publication).name
        return Record.of(source, StreamId.parse(applied.stream_id), 0, envelope, encode_data(envelope.event))


def event_of(event: str, data: str) -> Event:
    """Which event an event on the wire is."""
    fields = cast("dict[str, Any]", from_json(data))
    kind = SUBJECT[event]
    return Event(f"{DEFAULT_TENANT}:{kind}:{fields[f'{kind}_id']}", str(fields.get("message")))


def topics_of(envelope: Envelope) -> Sequence[Topic]:
    """The topics whose views the event belongs in."""
    return Record.of("", StreamId(0, 0), 0, envelope, b"").topics


def timeline(history: Sequence[AnyHappening], keys: Keys) -> Timeline:
    """Put a history in order."""
    put = Timeline(keys, {}, {}, [], [], [], {})
    by_op: dict[int, Publication] = {}
    changes: dict[int, list[Applied]] = {}
    for happening in history:
        match happening:
            case Invoked():
                by_op[happening.op] = _invoke(put, happening)
            case Answered():
                by_op[happening.op].answered.append(happening)
            case Applied():
                changes.setdefault(happening.partition, []).append(happening)
                put.everything.append(happening)
            case Rewound(partition=partition, change=change):
                changes[partition] = [one for one in changes.get(partition, []) if one.change <= change]
            case _:
                _note(put, happening)
    for partition in changes.values():
        for applied in partition:
            put.lineage.setdefault(applied.topic, []).append(applied)
    return put


def _note(put: Timeline, happening: AnyHappening) -> None:
    match happening:
        case Generation():
            put.generations.append(happening)
        case Fault():
            put.faults.append(happening)
        case Kept():
            put.kept[happening.stream] = frozenset(happening.stream_ids)
        case _:
            pass


def _invoke(put: Timeline, invoked: Invoked) -> Publication:
    envelope = invoked.envelope
    topic = envelope.topic.path if envelope is not None else ""
    publication = put.publications.setdefault(Event(topic, invoked.event_id), Publication(envelope))
    publication.invoked.append(invoked)
    return publication
