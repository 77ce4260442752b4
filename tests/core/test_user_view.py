"""What a user waits for, and what they were told."""

from core.views.folds import encode_state, evolve, initial, render
from pipai_contracts.ids import Topic
from pipai_contracts.views import MAX_LISTED, MAX_LISTED_MESSAGE, MAX_LISTED_METADATA, UserView
from tests.core.specification import Specification, given
from tests.core.telling import ai, analysis, at, notice, records, step, temporal

ADA = Topic("default", "user", "ada")


def _view(specification: Specification) -> UserView:
    view = specification.view
    assert isinstance(view, UserView)
    return view


def _active(specification: Specification) -> list[tuple[str, float]]:
    return [(item.id, item.progress) for item in _view(specification).workflows]


def test_active_workflows_and_files_are_listed_latest_first() -> None:
    seen = given(step(10, of="a"), step(20, of="b"), analysis(5, of="f"), topic=ADA).when(step(30, of="a"))

    assert _active(seen) == [("a", 30), ("b", 20)]
    assert [item.id for item in _view(seen).files] == ["f"]
    assert _view(seen).counts.active == 3


def test_what_ended_is_counted_by_how_it_ended() -> None:
    seen = given(*(step(10, of=name) for name in "abcde"), analysis(10), topic=ADA).when(
        step(100, of="a"),
        step(20, of="b", error="no"),
        step(20, of="c", canceled=True),
        temporal("timed_out", of="d"),
        analysis(100),
    )

    counts = _view(seen).counts
    assert _active(seen) == [("e", 10)]
    assert (counts.active, counts.completed, counts.failed, counts.canceled, counts.timed_out) == (1, 2, 1, 1, 1)


def test_a_run_that_ended_is_counted_once() -> None:
    ended = given(step(100, run="a"), topic=ADA)

    ended.when(step(50, run="a")).then_late().when(temporal("completed", run="a")).then_late()
    assert _view(ended).counts.completed == 1


def test_a_new_run_is_active_again_and_counts_again() -> None:
    seen = given(step(100, run="a"), step(10, run="b"), topic=ADA)
    assert _active(seen) == [("w", 10)]

    seen.when(step(11, run="a")).then_late().when(step(100, run="b"))
    assert (_active(seen), _view(seen).counts.completed) == ([], 2)


def test_temporals_word_on_a_run_without_id_is_late_once_it_ended() -> None:
    given(step(100), topic=ADA).when(temporal("failed", run="a")).then_late()


def test_a_straggler_of_the_run_before_the_one_that_temporal_ended_is_late() -> None:
    given(step(40, run="a"), temporal("terminated", run="b"), topic=ADA).when(step(41, run="a")).then_late()


def test_ai_steps_only_move_the_time() -> None:
    seen = given(step(10), topic=ADA).when(ai("text"))

    assert _active(seen) == [("w", 10)]
    seen.then(updated=at(2))


def test_more_active_workflows_than_are_listed_push_out_the_quietest() -> None:
    seen = given(*(step(1, of=f"w{number}") for number in range(MAX_LISTED)), topic=ADA)

    seen.when(step(2, of="w0"), step(1, of="one more"))

    listed = [name for name, _ in _active(seen)]
    assert (len(listed), listed[:2]) == (MAX_LISTED, ["one more", "w0"])
    assert "w1" not in listed


def test_notifications_are_listed_newest_first_up_to_the_bound() -> None:
    seen = given(*(notice(f"n{number}") for number in range(MAX_LISTED + 3)), topic=ADA)

    titles = [item.title for item in _view(seen).notifications]
    assert (len(titles), titles[0], titles[-1]) == (MAX_LISTED, f"n{MAX_LISTED + 2}", "n3")
    assert _view(seen).counts.notifications == MAX_LISTED + 3


def test_a_notification_is_listed_as_it_was_published() -> None:
    seen = given(topic=ADA).when(notice("hello", level="warning", link="/x", metadata={"n": 2**70}))

    (item,) = _view(seen).notifications
    assert (item.event_id, item.level, item.link, item.metadata) == ("e1", "warning", "/x", {"n": 2**70})
    assert item.timestamp == at(1)


def test_a_user_with_very_many_workflows_has_a_view_of_bounded_size() -> None:
    """After a few hundred the state has all it keeps: a hundred active, a hundred ended."""
    state = initial(ADA)
    sizes: list[int] = []
    for number, record in enumerate(
        records([step(100 if number % 2 else 50, of=f"workflow {number:06}") for number in range(3000)], start=10_000)
    ):
        state = evolve(state, record)
        if number % 1000 == 999:
            sizes.append(len(encode_state(state)))

    assert max(sizes) - min(sizes) < 100
    view = render(state)
    assert isinstance(view, UserView)
    assert (len(view.workflows), view.counts.completed) == (MAX_LISTED, 1500)


def test_very_large_notifications_are_cut_in_the_view() -> None:
    """Otherwise a hundred of them would have each later event of the user read and write 25 MB."""
    small = {"link": "/file"}
    seen = given(notice("small", message="short", metadata=small), topic=ADA)
    seen.when(*(notice("large", message="m" * 250_000) for _ in range(MAX_LISTED // 2)))
    seen.when(*(notice("large", message="m", metadata={"m": "y" * 250_000}) for _ in range(MAX_LISTED // 2 - 1)))

    by_metadata, *_, by_message, first = _view(seen).notifications
    assert (by_message.message, by_message.metadata) == ("m" * MAX_LISTED_MESSAGE, None)
    assert (by_metadata.message, by_metadata.metadata) == ("m", None)
    assert (first.message, first.metadata) == ("short", small)
    assert len(_view(seen).model_dump_json()) < 150_000


def test_metadata_is_listed_up_to_its_bound() -> None:
    fitting = {"m": "y" * (MAX_LISTED_METADATA - len('{"m":""}'))}
    larger = {"m": fitting["m"] + "y"}
    seen = given(notice("a", metadata=fitting), notice("b", metadata=larger), topic=ADA)

    assert [item.metadata for item in _view(seen).notifications] == [None, fitting]


def test_messages_of_active_runs_are_cut_in_the_view() -> None:
    seen = given(step(1, message="m" * 250_000), analysis(1, message="m" * 250_000), step(1, of="v"), topic=ADA)

    assert [item.message for item in _view(seen).workflows] == [None, "m" * MAX_LISTED_MESSAGE]
    assert [item.message for item in _view(seen).files] == ["m" * MAX_LISTED_MESSAGE]
