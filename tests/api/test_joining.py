"""A viewer's first connection: the state, the latest progress, then what happens."""

import pytest

from pipai_contracts.events import AiProgress, AnalysisProgress, Notification, TemporalStatus, WorkflowProgress
from tests.api.conftest import Api, Producer


async def test_connected_comes_first_with_the_state_and_the_cursor_that_goes_on_from_it(
    api: Api, producer: Producer
) -> None:
    await producer.progress("w", 10, 20, message="half way", user_id="u")
    async with api.watching("/stream/workflow/w") as stream:
        connected = await stream.next()

    answer = (await api.client.get("/views/workflow/w")).json()
    assert connected.event == "connected"
    assert connected.id == connected.data["cursor"] == answer["cursor"]
    assert connected.pos == 2
    assert connected.data["view"] == answer["view"]
    assert connected.data["view"]["progress"] == 20
    assert connected.data["kind"] == "workflow"
    assert connected.data["id"] == "w"
    assert connected.data["resumed"] is False
    assert connected.data["shaping"] == {}
    assert connected.data["heartbeat"] == 15


async def test_a_topic_nobody_published_to_is_no_error(api: Api, producer: Producer) -> None:
    async with api.watching("/stream/workflow/new") as stream:
        connected = await stream.next()
        assert stream.status == 200
        assert connected.data["view"] is None
        assert connected.id == connected.data["cursor"] == "0"

        await producer.progress("new", 5)
        first = await stream.next()
        assert (first.event, first.pos) == ("workflow_progress", 1)


async def test_the_latest_progress_follows_as_an_ordinary_event_without_an_id(api: Api, producer: Producer) -> None:
    """The specification's own clients know nothing of views."""
    await producer.progress("w", 10, 20, message="half way", metadata={"page": 3}, run_id="r1")
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        latest = await stream.next()

    assert latest.event == "workflow_progress"
    assert latest.id is None
    assert latest.data == {
        "workflow_id": "w",
        "step": "work",
        "progress": 20,
        "message": "half way",
        "metadata": {"page": 3},
        "run_id": "r1",
        "timestamp": latest.data["timestamp"],
    }


async def test_a_file_has_its_own_events(api: Api, producer: Producer) -> None:
    await producer.publish(AnalysisProgress(file_id="f", step="text_extraction", progress=25))
    async with api.watching("/stream/file/f?cursor=0") as stream:
        await stream.next()
        event = await stream.next()
        assert (event.event, event.data["file_id"], event.pos) == ("analysis_progress", "f", 1)
    async with api.watching("/stream/file/f") as stream:
        await stream.next()
        latest = await stream.next()
        assert (latest.event, latest.data["file_id"], latest.id) == ("analysis_progress", "f", None)


async def test_live_events_have_positions_one_after_another(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1)
    async with api.watching("/stream/workflow/w") as stream:
        connected = await stream.next()
        await stream.next()
        await producer.progress("w", *range(2, 50))
        frames = await stream.until(lambda frame: frame.data["progress"] == 49)

    epoch = str(connected.id).split(".")[0]
    assert [frame.id for frame in frames] == [f"{epoch}.{pos}" for pos in range(2, 50)]
    assert [frame.data["progress"] for frame in frames] == list(range(2, 50))


@pytest.mark.usefixtures("brief_farewell")
async def test_a_workflow_stream_has_its_ai_steps_and_what_temporal_told(api: Api, producer: Producer) -> None:
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await producer.progress("w", 1)
        await producer.publish(AiProgress(workflow_id="w", step="summary", delta="Once"))
        await producer.publish(TemporalStatus(workflow_id="w", status="terminated"))
        events = await stream.rest()

    by_name = {frame.event: frame for frame in events}
    assert set(by_name) == {"workflow_progress", "ai_progress", "temporal_status", "disconnected"}
    assert by_name["ai_progress"].data["delta"] == "Once"
    assert by_name["temporal_status"].id is not None
    assert sorted(frame.pos for frame in events[:3]) == [1, 2, 3]


async def test_a_workflow_that_only_temporal_ended_is_told_as_failed_progress(api: Api, producer: Producer) -> None:
    await producer.progress("w", 30)
    await producer.publish(TemporalStatus(workflow_id="w", status="timed_out", message="took too long"))
    async with api.watching("/stream/workflow/w?cursor=0") as stream:
        await stream.until(lambda frame: frame.event == "temporal_status")
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        latest = await stream.next()

    assert latest.event == "workflow_progress"
    assert (latest.data["progress"], latest.data["error"]) == (30, "took too long")


async def test_a_state_larger_than_any_event_can_be_joined(api: Api, producer: Producer) -> None:
    """A view keeps the result of one event and the metadata of another: together more than an event may have."""
    large = "x" * 200_000
    await producer.progress("w", 10, result={"text": large})
    await producer.progress("w", 20, metadata={"text": large})
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        latest = await stream.next()
        assert latest.data["result"] == latest.data["metadata"] == {"text": large}
        await producer.progress("w", 30)
        assert (await stream.next()).data["progress"] == 30


async def test_a_user_hears_of_their_workflows_files_and_notifications_only(api: Api, producer: Producer) -> None:
    async with api.watching("/stream/user/ann") as stream:
        await stream.next()
        await producer.publish(WorkflowProgress(workflow_id="w", step="s", progress=1), user_id="ann")
        await producer.publish(AnalysisProgress(file_id="f", step="s", progress=2), user_id="ann")
        await producer.publish(WorkflowProgress(workflow_id="other", step="s", progress=1), user_id="bob")
        await producer.publish(Notification(user_id="bob", title="no", message=""))
        await producer.publish(Notification(user_id="ann", title="yes", message="done"))
        frames = await stream.until(lambda _: len(stream.events()) == 4)
        assert {frame.event for frame in frames} == {"workflow_progress", "analysis_progress", "notification"}
        assert sorted(frame.pos for frame in frames) == [1, 2, 3]

        await producer.publish(WorkflowProgress(workflow_id="w", step="s", progress=100))
        ended = await stream.next()
        assert (ended.data["workflow_id"], ended.pos) == ("w", 4)
        await producer.publish(Notification(user_id="ann", title="later", message=""))
        assert (await stream.next()).data["title"] == "later"

    view = (await api.client.get("/views/user/ann")).json()["view"]
    assert [item["title"] for item in view["notifications"]] == ["later", "yes"]


async def test_an_ended_workflow_does_not_end_its_users_stream(api: Api, producer: Producer) -> None:
    await producer.progress("w", 100, user_id="ann")
    async with api.watching("/stream/user/ann") as stream:
        connected = await stream.next()
        assert connected.data["view"]["counts"]["completed"] == 1
        again = await api.client.get("/views/user/ann")
    assert again.json()["cursor"] == connected.id
