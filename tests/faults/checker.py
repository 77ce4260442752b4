"""What must be true of a history, whatever was broken while it was written. Pure."""

from collections.abc import Iterator, Sequence

from core.log.keys import Keys, partition_of
from pipai_contracts.ids import Topic
from tests.faults.anomaly import Anomaly
from tests.faults.history import Answered, AnyHappening, Applied
from tests.faults.state_checker import state_anomalies
from tests.faults.timeline import Event, Publication, Timeline, event_of, timeline, topics_of
from tests.faults.view_checker import view_anomalies
from tests.faults.viewer_checker import viewer_anomalies
from tests.faults.warning_checker import warning_anomalies


def find_anomalies(history: Sequence[AnyHappening], keys: Keys) -> list[Anomaly]:
    """Everything in the history that must never be.

    Events whose acknowledgement Redis itself forgot are no anomaly where a fault may have made it forget, provided
    that a raised generation told so.
    """
    put = timeline(history, keys)
    found = [*_publishing(put), *_applying(put), *_generations(put), *view_anomalies(put, history)]
    return [*found, *viewer_anomalies(put, history), *state_anomalies(put, history), *warning_anomalies(history)]


def lost_by_redis(history: Sequence[AnyHappening], keys: Keys) -> set[Event]:
    """Acknowledged events that Redis no longer had before every view had them, and that somebody told of."""
    put = timeline(history, keys)
    return {
        event
        for event, publication, topic in _missing(put)
        if put.may_have_lost and not _is_kept(put, publication) and _was_told(put, publication, topic)
    }


def _missing(put: Timeline) -> Iterator[tuple[Event, Publication, Topic]]:
    """Acknowledged events that a view they belong to never took in."""
    seen = {
        (topic, event_of(applied.event, applied.data)) for topic, lineage in put.lineage.items() for applied in lineage
    }
    for event, publication in put.publications.items():
        if publication.oks and publication.envelope is not None:
            for topic in topics_of(publication.envelope):
                if (topic.path, event) not in seen:
                    yield event, publication, topic


def _is_kept(put: Timeline, publication: Publication) -> bool:
    return any(ok.stream_id in put.kept.get(ok.stream, ()) for ok in publication.oks)


def _was_told(put: Timeline, publication: Publication, topic: Topic) -> bool:
    """Whether the topic's partition told of a loss after the event was first acknowledged."""
    partition = partition_of(topic, put.keys.partitions)
    first = min(ok.at for ok in publication.oks)
    return any(told.partition == partition and told.at >= first for told in put.generations)


def _publishing(put: Timeline) -> Iterator[Anomaly]:
    for event, publication, topic in _missing(put):
        if not put.may_have_lost or _is_kept(put, publication):
            yield Anomaly("lost-write", f"{event} is not in {topic.path}; answered {_places(publication.oks)}")
        elif not _was_told(put, publication, topic):
            yield Anomaly("silent-loss", f"{event} is not in {topic.path}, and nobody told")
    for event, publication in put.publications.items():
        if not put.may_have_lost and len(_places(publication.oks)) > 1:
            yield Anomaly("split-place", f"{event} was answered {_places(publication.oks)}")
        if not put.may_have_lost and sum(not ok.duplicate for ok in publication.oks) > 1:
            yield Anomaly("split-place", f"{event} was answered more than once as if it were new")


def _places(oks: Sequence[Answered]) -> list[tuple[str, str, int]]:
    return sorted({(ok.stream, ok.stream_id, ok.offset) for ok in oks})


def _applying(put: Timeline) -> Iterator[Anomaly]:
    refused = {event.event_id for event, publication in put.publications.items() if _was_refused(publication)}
    for topic, lineage in put.lineage.items():
        taken: dict[Event, str] = {}
        for applied in lineage:
            event = event_of(applied.event, applied.data)
            publication = put.publications.get(event)
            if event.event_id in refused:
                yield Anomaly("aborted-read", f"{event} was refused, and is in {topic}")
            elif publication is None:
                yield Anomaly("phantom", f"{event} is in {topic}, and nobody published it")
            elif not _stands_where_answered(publication, applied):
                yield Anomaly("misplaced", f"{event} was applied from {applied.stream_id}, {_places(publication.oks)}")
            if event in taken and (taken[event] == applied.stream_id or not put.may_have_lost):
                yield Anomaly("duplicate", f"{event} is in {topic} twice: {taken[event]} and {applied.stream_id}")
            taken[event] = applied.stream_id


def _was_refused(publication: Publication) -> bool:
    """Whether every attempt was answered with a definite no."""
    answers = publication.answered
    return len(answers) == len(publication.invoked) and all(answer.outcome == "fail" for answer in answers)


def _stands_where_answered(publication: Publication, applied: Applied) -> bool:
    """An event nobody was answered a place for may stand anywhere."""
    return not publication.oks or any(ok.stream_id == applied.stream_id for ok in publication.oks)


def _generations(put: Timeline) -> Iterator[Anomaly]:
    for told in put.generations:
        if not any(fault.loses and fault.at <= told.at for fault in put.faults):
            yield Anomaly("unmatched-generation", f"generation {told.generation} of partition {told.partition}")
