"""Views do not depend on how the source streams interleave, nor on where one batch ends and the next begins."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from core.views.folds import decode_state, encode_state, render
from core.views.project import fold_batch, topics_in
from core.views.stored import FeedEntry, Stored, unheard_of
from pipai_contracts.ids import Topic
from pipai_contracts.record import Record
from tests.core.telling import Told, records
from tests.model.events import told_events


@st.composite
def _batches(draw: st.DrawFn, log: Sequence[Record]) -> list[list[Record]]:
    """The log in batches of one source each, in any order that keeps each source's own."""
    sources = {one.source for one in log}
    left: dict[str, list[Record]] = {source: [one for one in log if one.source == source] for source in sources}
    batches: list[list[Record]] = []
    while left:
        source = draw(st.sampled_from(sorted(left)))
        size = draw(st.integers(1, len(left[source])))
        batches.append(left[source][:size])
        left[source] = left[source][size:]
        left = {name: rest for name, rest in left.items() if rest}
    return batches


def _project(batches: Sequence[Sequence[Record]]) -> tuple[dict[Topic, Stored], dict[Topic, list[FeedEntry]]]:
    """Views and feeds after the batches; between two of them each view is stored and read back."""
    views: dict[Topic, Stored] = {}
    feeds: dict[Topic, list[FeedEntry]] = {}
    for number, batch in enumerate(batches):
        loaded = {topic: views.get(topic, unheard_of(topic)) for topic in topics_in(batch)}
        folded = fold_batch(batch, loaded, version=str(number))
        assert not folded.failed
        for update in folded.updates:
            state = decode_state(update.topic.kind, encode_state(update.after.state))
            views[update.topic] = replace(update.after, state=state)
            feeds.setdefault(update.topic, []).extend(update.entries)
    return views, feeds


@given(st.lists(told_events(), max_size=20), st.data())
def test_any_interleaving_in_any_batches_gives_the_same_views(told: list[Told], draw: st.DataObject) -> None:
    log = records(told)

    straight, straight_feeds = _project([log])
    mixed, mixed_feeds = _project(draw.draw(_batches(log)))

    assert mixed.keys() == straight.keys()
    for topic, view in straight.items():
        assert encode_state(mixed[topic].state) == encode_state(view.state)
        assert render(mixed[topic].state) == render(view.state)
        assert (mixed[topic].pos, mixed[topic].heard) == (view.pos, view.heard)
        assert sorted(mixed_feeds[topic]) == sorted(straight_feeds[topic])


@given(st.lists(told_events(), max_size=20), st.data())
def test_batches_that_are_folded_again_after_a_crash_change_nothing(told: list[Told], draw: st.DataObject) -> None:
    batches = draw.draw(_batches(records(told)))
    again = [batch for batch in batches for _ in range(draw.draw(st.integers(1, 2)))]

    once, once_feeds = _project(batches)
    twice, twice_feeds = _project(again)

    assert twice_feeds == once_feeds
    assert {topic: view.state for topic, view in twice.items()} == {topic: view.state for topic, view in once.items()}
