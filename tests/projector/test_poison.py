"""Events no view can take are parked, and everything else goes on."""

from typing import Any

import pytest

from core.log import entry
from core.views import project
from core.views.folds import State, evolve
from core.views.user import UserState
from pipai_contracts import upcast
from pipai_contracts.record import Record
from pipai_contracts.views import FileView, WorkflowView
from tests.conftest import wait_until
from tests.contracts.json_values import nested
from tests.core.telling import Told, ai, analysis, notice, step
from tests.projector.conftest import Deployment, counted
from tests.projector.fresh_fold import fold_log

FOREIGN: dict[str, dict[Any, Any]] = {
    "none of the fields": {"hello": "world"},
    "the fields of FastStream": {"__data__": b"BIN\x00\x01"},
    "not UTF-8": {"id": b"\xff\xfe", "data": b"\xff", b"\xff": "x"},
    "data that is no JSON": {"id": "x", "type": "workflow_progress", "v": "1", "offset": "2", "data": "{"},
    "an offset beyond all numbers": {"offset": "9" * 5000},
}


@pytest.mark.parametrize("fields", FOREIGN.values(), ids=FOREIGN.keys())
async def test_an_entry_by_another_hand_is_parked_and_the_topic_goes_on(
    deployment: Deployment, fields: dict[Any, Any]
) -> None:
    parked = counted("pipai_parked_events_total")
    async with deployment.projecting():
        await deployment.publish(step(1))
        stream_id = await deployment.redis.xadd(deployment.source().key, fields)
        await deployment.publish(step(2))
        assert await deployment.settled() == 1

    (letter,) = await deployment.letters()
    assert letter[b"stream_id"] == stream_id
    assert b"UndecodableEntryError" in letter[b"error"]
    original = {name.removeprefix(b"original:"): value for name, value in letter.items() if b"original:" in name}
    assert original == {_raw(name): _raw(value) for name, value in fields.items()}
    assert counted("pipai_parked_events_total") - parked == 1


def _raw(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


async def test_an_event_of_a_newer_build_waits_and_is_projected_after_the_upgrade(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows it waits too, so that nothing is out of order; the other sources go on."""
    newer = step(2).envelope("newer").model_copy(update={"v": 2})
    async with deployment.projecting():
        await deployment.publish(step(1))
        await deployment.appender.append([newer])
        await deployment.publish(step(3), analysis(5))
        await wait_until(lambda: counted("pipai_waiting_for_upgrade") == 1)
        await deployment.publish(step(4), analysis(6))
        await wait_until(lambda: _progress(deployment, "file", "f", 6))
        await wait_until(lambda: _none_pending(deployment), message="what waits fills the list of pending entries")
        assert await _progress(deployment, "workflow", "w", 1)

    monkeypatch.setattr(upcast, "SCHEMA_VERSION", 2)
    monkeypatch.setattr(entry, "SCHEMA_VERSION", 2)
    monkeypatch.setitem(upcast.UPCASTERS, 1, lambda _, data: data)
    async with deployment.projecting():
        await deployment.settled()
        assert await _progress(deployment, "workflow", "w", 4)

    assert await deployment.letters() == []
    assert counted("pipai_waiting_for_upgrade") == 0


async def _progress(deployment: Deployment, kind: str, resource_id: str, progress: int) -> bool:
    view = await deployment.view(kind, resource_id)
    return isinstance(view, WorkflowView | FileView) and view.progress == progress


async def _none_pending(deployment: Deployment) -> bool:
    return await deployment.pending() == 0


async def test_an_event_whose_fold_raises_is_parked_and_in_no_view(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fragile(state: State, record: Record) -> State:
        if b'"progress":13' in record.data:
            raise ArithmeticError("unlucky")
        return evolve(state, record)

    with monkeypatch.context() as broken:
        broken.setattr(project, "evolve", fragile)
        async with deployment.projecting():
            (_, unlucky, _) = await deployment.publish(*(step(number).by("ada") for number in (12, 13, 14)))
            await deployment.publish(step(15, of="v").by("ada"))
            await deployment.settled_without(unlucky)

    (letter,) = await deployment.letters()
    assert (letter[b"stream_id"].decode(), letter[b"error"]) == (unlucky.stream_id, b"ArithmeticError: unlucky")
    assert letter[b"original:id"].decode() == unlucky.event_id


async def test_a_parked_event_stays_out_of_a_view_that_is_folded_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's view refuses it; meanwhile a rival has moved the workflow's view, which alone is then folded anew."""

    def fragile(state: State, record: Record) -> State:
        if isinstance(state, UserState) and b'"progress":13' in record.data:
            raise ArithmeticError("unlucky")
        return evolve(state, record)

    monkeypatch.setattr(project, "evolve", fragile)
    follower, rival = await deployment.follower(), await deployment.follower(deployment.source("ai:progress"))
    await deployment.publish(step(12).by("ada"))
    await follower.catch_up()
    await deployment.publish(ai("x"))
    await rival.catch_up()
    (unlucky, _) = await deployment.publish(step(13).by("ada"), step(14).by("ada"))
    await follower.catch_up()

    await deployment.settled_without(unlucky)
    assert len(await deployment.letters()) == 1


@pytest.mark.parametrize(
    "deepest",
    [
        step(1, result=nested(100), metadata={"x": nested(99)}).by("ada"),
        ai("x", result=nested(100)),
        notice("hello", metadata={"x": nested(99)}),
    ],
)
async def test_the_deepest_json_an_event_may_carry_can_be_read_back_from_its_view(
    deployment: Deployment, deepest: Told
) -> None:
    """A view nests it some levels deeper; one that could not be read back would stop its topic for ever."""
    async with deployment.projecting():
        await deployment.publish(deepest)
        await deployment.settled()
    async with deployment.projecting():
        await deployment.publish(deepest)
        await deployment.settled()

    assert list(await deployment.letters()) == []
    assert all(view.events.total() == 2 for view in (await fold_log(deployment.redis, deployment.keys)).values())
