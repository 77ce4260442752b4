"""Views and feeds as JSON."""

from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from pipai_contracts.events import AnalysisProgress, Notification
from tests.api.conftest import Api, Producer
from tests.conftest import wait_until


async def _published_everywhere(producer: Producer) -> None:
    """Three events each of workflow `w`, file `f` and, apart from their runs, user `u`."""
    await producer.progress("w", 1, 2, 3)
    await producer.publish(*[AnalysisProgress(file_id="f", step="s", progress=at) for at in (1, 2, 3)])
    await producer.publish(*[Notification(user_id="u", title=f"n{at}", message="") for at in (1, 2, 3)])

    async def there() -> bool:
        return await producer.pos("file", "f") == await producer.pos("user", "u") == 3

    await wait_until(there)


def _problem(answer: httpx2.Response) -> dict[str, Any]:
    """The problem report, which is one in every respect."""
    problem: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == answer.status_code
    assert problem["type"].startswith("/problems/")
    assert problem["title"]
    assert problem["detail"]
    return problem


KINDS = [("workflow", "w"), ("file", "f"), ("user", "u")]


@pytest.mark.parametrize(("kind", "name"), KINDS)
async def test_a_view_has_its_cursor_and_an_etag(api: Api, producer: Producer, kind: str, name: str) -> None:
    await _published_everywhere(producer)
    answer = await api.client.get(f"/views/{kind}/{name}")
    view = answer.json()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert set(view) == {"kind", "id", "cursor", "view"}
    assert (view["kind"], view["id"], view["view"]["id"]) == (kind, name, name)
    assert view["cursor"].endswith(".3")
    assert answer.headers["etag"] == f'"{view["cursor"]}"'
    assert "private" in answer.headers["cache-control"]


async def test_a_view_that_did_not_change_is_304(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1)
    etag = (await api.client.get("/views/workflow/w")).headers["etag"]
    for known in (etag, f'"other", {etag}', f"W/{etag}"):
        answer = await api.client.get("/views/workflow/w", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    for unknown in ('"other"', f'"{etag}"', ""):
        assert (await api.client.get("/views/workflow/w", headers={"If-None-Match": unknown})).status_code == 200
    await producer.progress("w", 2)
    changed = await api.client.get("/views/workflow/w", headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["view"]["progress"]) == (200, 2)


async def test_what_nobody_published_to_is_404(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1)
    for path in ("/views/workflow/x", "/views/file/w", "/events/user/x", "/events/workflow/x?after=9"):
        answer = await api.client.get(path)
        assert answer.status_code == 404
        assert _problem(answer)["type"] == "/problems/unknown-topic"


REFUSED = {
    "/views/planet/x": 422,
    "/events/planet/x": 422,
    "/stream/planet/x": 404,
    "/views/workflow/" + "x" * 201: 422,
    "/stream/workflow/%00": 422,
    "/views/workflow/%ff": 422,
    "/nothing/here": 404,
    "/events/workflow/w?limit=0": 422,
    "/events/workflow/w?limit=1001": 422,
    "/events/workflow/w?limit=many": 422,
    "/events/workflow/w?after=": 400,
    "/events/workflow/w?after=-1": 400,
    "/events/workflow/w?after=1.5": 400,
    "/events/workflow/w?after=%D9%A3": 400,
    "/events/workflow/w?after=9999999999999999": 400,
    "/events/workflow/w?after=1234abcd.1": 410,
}


async def test_a_request_that_cannot_be_answered_gets_a_problem(api: Api, producer: Producer) -> None:
    await producer.progress("w", 1)
    for path, status in REFUSED.items():
        answer = await api.client.get(path)
        assert answer.status_code == status, path
        _problem(answer)


async def test_a_method_that_is_not_there_gets_a_problem(api: Api) -> None:
    answer = await api.client.delete("/views/workflow/w")
    assert answer.status_code == 405
    _problem(answer)


@pytest.mark.parametrize(("kind", "name"), KINDS)
async def test_events_are_read_page_by_page(api: Api, producer: Producer, kind: str, name: str) -> None:
    await _published_everywhere(producer)
    path = f"/events/{kind}/{name}"
    first = (await api.client.get(path, params={"limit": 2})).json()
    assert [event["pos"] for event in first["events"]] == [1, 2]
    assert first["next"] == first["events"][-1]["cursor"]
    second = (await api.client.get(path, params={"after": first["next"], "limit": 2})).json()
    assert [event["pos"] for event in second["events"]] == [3]
    assert second["next"] is None
    again = (await api.client.get(path, params={"after": 2})).json()
    assert again == second
    assert (await api.client.get(path, params={"after": 1, "limit": 2})).json()["next"] is None
    for end in (3, 999_999_999_999_999, second["events"][0]["cursor"]):
        assert (await api.client.get(path, params={"after": end})).json() == {"events": [], "next": None}


async def test_an_event_reads_as_its_stream_told_it(api: Api, producer: Producer) -> None:
    async with api.watching("/stream/workflow/w") as stream:
        await stream.next()
        await producer.progress("w", 50, metadata={"big": 12345678901234567890123})
        told = await stream.next()
    [event] = (await api.client.get("/events/workflow/w")).json()["events"]
    assert event == {"cursor": told.id, "pos": 1, "event": told.event, "data": told.data}


async def test_a_hundred_events_come_unless_asked_otherwise_and_a_thousand_at_most(
    api: Api, producer: Producer
) -> None:
    await producer.progress("w", *[at / 10 for at in range(150)])
    assert len((await api.client.get("/events/workflow/w")).json()["events"]) == 100
    assert len((await api.client.get("/events/workflow/w?limit=1000")).json()["events"]) == 150


async def test_an_id_may_have_any_character(api: Api, producer: Producer) -> None:
    name = "a/b c?d#e%2F:é💡{}"
    await producer.progress(name, 5)
    answer = await api.client.get(f"/views/workflow/{quote(name, safe='')}")
    assert (answer.json()["id"], answer.json()["view"]["id"]) == (name, name)
    events = await api.client.get(f"/events/workflow/{quote(name, safe='')}")
    assert events.json()["events"][0]["data"]["workflow_id"] == name
