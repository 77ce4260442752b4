"""Documents through the workflow: what viewers are told while it runs, and how it ends."""

from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError

from services.worker.compose import compose_activities, compose_worker
from tests.conftest import wait_until
from tests.worker.conftest import Handle, Office
from tests.worker.samples import HTML, MARKDOWN, TEXT, lock_pdf, make_blank_pdf, make_docx, make_pdf, make_slow_pdf

SOURCES = ("workflow:progress", "analysis:progress")


def terminal(data: dict[str, Any]) -> bool:
    return data["progress"] == 100 or "error" in data or data.get("canceled") is True


@pytest.mark.usefixtures("worker")
async def test_a_pdf_of_twelve_pages_is_told_page_by_page(office: Office) -> None:
    handle = await office.send(make_pdf(12), "survey.pdf", content_type="application/pdf")
    result = await handle.result()
    assert result.language == "en"
    assert result.counts.pages == 12
    assert "salmon" in result.summary
    for source in SOURCES:
        told = await office.data(handle, source)
        pages = [one["message"] for one in told if one.get("message", "").startswith("Page ")]
        assert pages == [f"Page {n} of 12" for n in range(1, 13)]
        progress = [one["progress"] for one in told]
        assert progress == sorted(progress)
        assert [terminal(one) for one in told] == [False] * (len(told) - 1) + [True]
        assert told[-1]["result"] == result.model_dump(mode="json")
    steps = list(dict.fromkeys(one["step"] for one in await office.data(handle)))
    assert steps == ["identify", "extract", "analyse", "conclude"]


@pytest.mark.usefixtures("worker")
async def test_events_name_their_run_owner_and_have_ids_of_their_own(office: Office) -> None:
    handle = await office.send(make_pdf(3), "survey.pdf")
    await handle.result()
    for source in (*SOURCES, "ai:progress"):
        records = await office.events(handle, source)
        assert {record.envelope.run_id for record in records} == {handle.result_run_id}
        assert {record.envelope.user_id for record in records} == {"ada"}
        ids = [record.envelope.event_id for record in records]
        assert len(set(ids)) == len(ids)
        assert all(one.startswith(f"{handle.result_run_id}:") for one in ids)
        assert all(before.envelope.time <= after.envelope.time for before, after in pairwise(records))


@pytest.mark.usefixtures("worker")
async def test_the_ai_step_streams_its_text_and_its_result(office: Office) -> None:
    handle = await office.send(make_pdf(2), "survey.pdf")
    result = await handle.result()
    told = await office.data(handle, "ai:progress")
    assert [one["step"] for one in told][:2] == ["language", "key phrases"]
    assert "".join(one.get("delta", "") for one in told) == result.summary
    assert {one["model"] for one in told} == {"local"}
    assert told[-1]["result"] == result.model_dump(mode="json")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("data", "filename", "language"),
    [
        (make_docx(), "survey.docx", "en"),
        (HTML, "survey.html", "en"),
        (MARKDOWN, "survey.md", "en"),
        (TEXT, "zählung.txt", "de"),
    ],
)
async def test_every_kind_of_document_is_analysed(office: Office, data: bytes, filename: str, language: str) -> None:
    handle = await office.send(data, filename)
    result = await handle.result()
    assert result.language == language
    assert result.counts.words > 5
    assert any("Section 1 of" in one.get("message", "") for one in await office.data(handle))


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("data", "filename", "step", "says"),
    [
        (make_pdf(3)[:1500], "a.pdf", "extract", "damaged"),
        (lock_pdf(make_pdf(1), "secret"), "a.pdf", "extract", "password"),
        (make_blank_pdf(), "a.pdf", "extract", "no text"),
        (b"\x00\x01", "a.pdf", "identify", "unknown binary kind"),
    ],
)
async def test_what_cannot_be_analysed_ends_in_one_clear_error(
    office: Office, data: bytes, filename: str, step: str, says: str
) -> None:
    handle = await office.send(data, filename)
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, ApplicationError)
    assert says in failure.value.cause.message
    for source in SOURCES:
        told = await office.data(handle, source)
        assert [terminal(one) for one in told] == [False] * (len(told) - 1) + [True]
        assert says in told[-1]["error"]
        assert told[-1]["progress"] == told[-2]["progress"]
    assert (await office.data(handle))[-1]["step"] == step


@pytest.mark.usefixtures("worker")
async def test_a_file_that_is_gone_ends_in_a_clear_error(office: Office) -> None:
    handle = await office.send(b"words", "a.txt", storage_key="documents/nothing")
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert (await office.data(handle))[-1]["error"] == "The file is no longer stored."


@pytest.mark.usefixtures("worker")
async def test_a_cancellation_in_the_middle_is_told_where_it_happened(office: Office) -> None:
    handle = await office.send(make_slow_pdf(400), "long.pdf")

    async def reading() -> bool:
        return any(one.get("message", "").startswith("Page ") for one in await office.data(handle))

    await wait_until(reading, message="no page was read")
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, CancelledError)
    for source in SOURCES:
        told = await office.data(handle, source)
        assert [terminal(one) for one in told] == [False] * (len(told) - 1) + [True]
        assert told[-1]["canceled"] is True
        assert told[-1]["progress"] == told[-2]["progress"]
        assert 5 < told[-1]["progress"] < 55


async def test_a_document_cancelled_before_any_worker_took_it_is_told_too(office: Office) -> None:
    handle = await office.send(make_pdf(1), "a.pdf")
    await handle.cancel()
    async with AsyncExitStack() as stack:
        activities = compose_activities(office.settings, stack)
        async with compose_worker(office.client, office.settings, activities):
            with pytest.raises(WorkflowFailureError):
                await handle.result()
    assert [one.get("canceled") for one in await office.data(handle)] == [True]


@pytest.mark.usefixtures("worker")
async def test_the_text_does_not_stay_behind(office: Office) -> None:
    for data in (make_pdf(2), make_blank_pdf()):
        handle = await office.send(data, "a.pdf")
        await wait_until(lambda handle=handle: ended(office, handle), 30)
    assert len(office.stored()) == 2
    assert not any(name.endswith(".text") for name in office.stored())


async def ended(office: Office, handle: Handle) -> bool:
    return any(terminal(one) for one in await office.data(handle))
