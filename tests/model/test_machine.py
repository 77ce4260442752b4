"""Two projectors that may crash between any two steps, while the log grows, is cut, and views go back."""

from collections.abc import Callable, Generator
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core.log.keys import SOURCES
from core.views.folds import evolve, initial
from core.views.stored import epoch_of
from pipai_contracts.ids import Topic
from pipai_contracts.record import Record
from tests.core.telling import Told, ai, analysis, notice, step
from tests.model.events import told_events
from tests.model.log_model import RedisModel, Rule
from tests.model.projector_model import ProjectorModel, WentBackError

sources = st.sampled_from(SOURCES)
projectors = st.integers(0, 1)


class Machine(RuleBasedStateMachine):
    """What may happen, in any order; `teardown` lets everything come to rest and looks at what became of it."""

    without: Rule | None = None
    damage = False
    """Whether Redis loses something in this story. Where it does not, no loss may be told."""

    def __init__(self) -> None:
        super().__init__()
        self.redis = RedisModel(self.without)
        self.projectors = [ProjectorModel(self.redis), ProjectorModel(self.redis)]
        self.at_work: list[Generator[None] | None] = [None, None]
        self.published: list[Told] = []
        self.failed_over = False
        self.remembered = [self.redis.remember()]

    @rule(told=st.lists(told_events(), min_size=1, max_size=4))
    def publish(self, told: list[Told]) -> None:
        self.remembered.append(self.redis.remember())
        for one in told:
            self.published.append(one)
            self.redis.append(one.envelope(f"e{len(self.published)}", len(self.published)))

    @rule(number=st.integers(0, 30))
    def publish_again(self, number: int) -> None:
        if number < len(self.published):
            self.redis.append(self.published[number].envelope(f"e{number + 1}", number + 1))

    @rule(projector=projectors, source=sources, count=st.integers(1, 4))
    def deliver(self, projector: int, source: str, count: int) -> None:
        if self.at_work[projector] is None:
            delivered = self.redis.deliver(source, count)
            self.at_work[projector] = self.projectors[projector].take(source, delivered)

    @rule(projector=projectors, source=sources, first=st.integers(1, 3), second=st.integers(1, 3))
    def deliver_ahead(self, projector: int, source: str, first: int, second: int) -> None:
        """Two batches follow each other so closely that the second is folded before the first is committed."""
        if self.at_work[projector] is None:
            batches = [self.redis.deliver(source, count) for count in (first, second)]
            self.at_work[projector] = self.projectors[projector].take_ahead(source, *batches)

    @rule(projector=projectors, source=sources)
    def catch_up(self, projector: int, source: str) -> None:
        if self.at_work[projector] is None:
            self.at_work[projector] = self.projectors[projector].catch_up(source)

    @rule(order=st.lists(projectors, min_size=1, max_size=25))
    def go_on(self, order: list[int]) -> None:
        for projector in order:
            self._step(projector)

    @rule(source=sources, order=st.lists(projectors, min_size=5, max_size=30), crash=st.none() | projectors)
    def race(self, source: str, order: list[int], crash: int | None) -> None:
        """Both work on one source, step by step in some order, and one may crash on the way."""
        self.deliver(0, source, 4)
        self.catch_up(1, source)
        self.go_on(order)
        if crash is not None:
            self.crash(crash)

    @rule(projector=projectors, source=sources)
    def project(self, projector: int, source: str) -> None:
        """One works on a source until all is done."""
        self._finish(projector)
        self.catch_up(projector, source)
        self._finish(projector)

    @rule(projector=projectors, source=sources)
    def hand(self, projector: int, source: str) -> None:
        """One takes in all the group has to give."""
        self._finish(projector)
        self.deliver(projector, source, 100)
        self._finish(projector)

    @rule(source=sources, told=st.lists(told_events(), min_size=1, max_size=4))
    def drop_and_publish(self, source: str, told: list[Told]) -> None:
        """A delivery is lost, and events that come after it are not."""
        self.redis.deliver(source, 100)
        self.publish(told)

    @rule(projector=projectors)
    def crash(self, projector: int) -> None:
        self.projectors[projector] = ProjectorModel(self.redis)
        self.at_work[projector] = None

    @rule(source=sources)
    def destroy_the_group(self, source: str) -> None:
        self.redis.destroy_group(source)

    @precondition(lambda self: self.damage)
    @rule(source=sources, count=st.integers(1, 2))
    def cut_by_hand(self, source: str, count: int) -> None:
        self.redis.cut(source, count)

    @precondition(lambda self: self.damage)
    @rule(writes=st.integers(1, 3))
    def go_back(self, writes: int) -> None:
        """A failover lost what was written last, and was noticed; each projector goes on with what it remembers.

        Once a story: another one might lose the raised generation too, and its number would be given out again.
        """
        if self.failed_over:
            return
        self.failed_over = True
        self.redis.go_back(self.remembered[-writes:][0])
        self.redis.raise_generation()

    @precondition(lambda self: self.damage and self.at_work == [None, None])
    @rule(told=st.lists(told_events(), min_size=1, max_size=4), first=sources, second=sources)
    def fail_over(self, told: list[Told], first: str, second: str) -> None:
        """What both took in is lost, and each goes on with what it remembers, the second with what the first had."""
        self.publish(told)
        self.hand(0, first)
        self.project(1, second)
        self.go_back(1)
        self.publish(told)
        self.hand(0, first)
        self.project(1, first)

    @invariant()
    def every_feed_counts_without_a_hole_and_has_each_event_once(self) -> None:
        for topic, feed in self.redis.kept.feeds.items():
            stored = self.redis.kept.views[topic]
            assert stored.pos == len(feed), topic
            assert len({(entry.event, entry.stream_id) for entry in feed}) == len(feed), topic

    def teardown(self) -> None:
        for told in (step(1), analysis(1), ai("z"), notice("end")):  # so that what is gone at the end is missed
            self.publish([told])
        for projector in (0, 1, 0):
            for source in SOURCES:
                self.project(projector, source)
        self.every_feed_counts_without_a_hole_and_has_each_event_once()
        self._look()

    def _finish(self, projector: int) -> None:
        while self.at_work[projector]:
            self._step(projector)

    def _step(self, projector: int) -> None:
        steps = self.at_work[projector]
        if steps is None:
            return
        try:
            next(steps)
        except (StopIteration, WentBackError):
            self.at_work[projector] = None

    def _look(self) -> None:
        redis, kept = self.redis, self.redis.kept
        ids = [(record.envelope.topic, record.envelope.event_id) for record in redis.appended]
        assert len(set(ids)) == len(ids), "a repeat was appended as a new event"
        self._look_at_views()
        assert self.damage or kept.generation == 0, "a loss was told that never was"
        assert not redis.trimmed_unseen
        assert not any(log.pending for log in redis.sources.values())
        generation = 0
        for change in kept.changes:
            if change.topic is None:
                generation += 1
            else:
                first = kept.views[change.topic].first
                assert change.epoch == epoch_of(generation, first), "an event under the epoch before the loss"

    def _look_at_views(self) -> None:
        redis, kept = self.redis, self.redis.kept
        expected: dict[Topic, list[Record]] = {}
        in_log = {(name, one.stream_id) for name, log in redis.sources.items() for one in log.records}
        for record in redis.appended:
            for topic in record.topics:
                feed = kept.feeds.get(topic, [])
                if (record.envelope.event.type, str(record.stream_id)) in {(one.event, one.stream_id) for one in feed}:
                    expected.setdefault(topic, []).append(record)
                else:
                    assert (record.source, record.stream_id) not in in_log, f"{topic} lacks {record}"
                    assert kept.generation, f"{topic} lacks {record}, and nobody told"
                    assert self.damage, f"{topic} lacks {record}, and nothing happened"
        for topic, stored in kept.views.items():
            state = initial(topic)
            for record in expected.get(topic, []):
                state = evolve(state, record)
            assert stored.state == state, topic


def _settings(examples: int, **more: Any) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        **more,
    )


class DamagedMachine(Machine):
    """The same while the log is cut by hand and views go back."""

    damage = True


Machine.TestCase.settings = _settings(80)
DamagedMachine.TestCase.settings = _settings(80)
TestMachine = Machine.TestCase
TestDamagedMachine = DamagedMachine.TestCase

RARE: frozenset[Rule] = frozenset(
    {
        "went back",
        "fold all again",
        "generation before views",
        "checkpoint knows its commit",
        "a version names its fold",
        "retry from what is stored",
    }
)
"""Found by thousands of stories only: the stories that found them are told below."""


@pytest.mark.parametrize("rule", [rule for rule in get_args(Rule) if rule not in RARE])
def test_a_system_without_one_of_its_rules_is_caught(rule: Rule) -> None:
    base = DamagedMachine if rule in {"generation", "tell losses"} else Machine
    broken: Any = type("Broken", (base,), {"without": rule})

    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            broken, settings=_settings(3000, derandomize=True, phases=[Phase.generate], print_blob=False)
        )


def _take_in_what_follows_on_views_that_went_back(machine: Machine) -> None:
    machine.publish([step(10)])
    machine.hand(0, "workflow:progress")
    machine.publish([step(20)])
    machine.go_back(2)
    machine.hand(0, "workflow:progress")


def _take_over_a_source_with_views_that_went_back_in_memory(machine: Machine) -> None:
    machine.publish([step(10).by("ada")])
    machine.project(0, "workflow:progress")
    machine.publish([analysis(10).by("ada")])
    machine.project(1, "analysis:progress")
    machine.go_back(2)
    machine.project(1, "workflow:progress")


def _move_a_checkpoint_whose_commit_is_gone(machine: Machine) -> None:
    machine.publish([step(10)])
    machine.deliver(0, "workflow:progress", 1)
    while not machine.redis.kept.changes:
        machine.go_on([0])
    machine.redis.go_back(machine.remembered[-1])
    machine.hand(0, "workflow:progress")


def _believe_what_a_rival_committed_and_redis_lost(machine: Machine) -> None:
    """Nothing was left to commit, so no commit noticed it."""
    machine.publish([step(10)])
    machine.deliver(0, "workflow:progress", 1)
    while not machine.redis.kept.changes:
        machine.go_on([0])
    machine.crash(0)
    machine.catch_up(1, "workflow:progress")
    while not machine.projectors[1].has_views:
        machine.go_on([1])
    machine.go_back(1)
    machine.hand(1, "workflow:progress")


def _fold_ahead_of_a_rival_that_commits_both_at_once(machine: Machine) -> None:
    machine.publish([step(10), step(20)])
    machine.deliver_ahead(0, "workflow:progress", 1, 1)
    machine.go_on([0] * 4)
    machine.project(1, "workflow:progress")
    machine.go_on([0] * 30)


def _fold_ahead_while_a_rival_writes_a_shared_view(machine: Machine) -> None:
    machine.publish([step(10).by("ada"), step(20).by("ada"), analysis(10).by("ada")])
    machine.deliver_ahead(0, "workflow:progress", 1, 1)
    machine.go_on([0] * 4)
    machine.project(1, "analysis:progress")
    machine.go_on([0] * 30)


STORIES: dict[Rule, Callable[[Machine], None]] = {
    "went back": _take_in_what_follows_on_views_that_went_back,
    "fold all again": _take_over_a_source_with_views_that_went_back_in_memory,
    "generation before views": _believe_what_a_rival_committed_and_redis_lost,
    "checkpoint knows its commit": _move_a_checkpoint_whose_commit_is_gone,
    "a version names its fold": _fold_ahead_of_a_rival_that_commits_both_at_once,
    "retry from what is stored": _fold_ahead_while_a_rival_writes_a_shared_view,
}


@pytest.mark.parametrize("rule", sorted(RARE))
def test_a_story_that_needs_a_rule_ends_well_with_it_and_not_without(rule: Rule) -> None:
    for without in (None, rule):
        machine_type: type[Machine] = type("Told", (DamagedMachine,), {"without": without})
        machine = machine_type()
        STORIES[rule](machine)
        if without is None:
            machine.teardown()
        else:
            with pytest.raises(AssertionError):
                machine.teardown()
