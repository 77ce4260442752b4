"""Everything the api shows is asked for in the name of who asks, which is found out in one place."""

from pathlib import Path

import pytest

from services.api import access
from services.api.access import Reader
from tests.api.conftest import Api, Producer

_MARK = "for its own tenant alone"
_API = Path(access.__file__).parent

_SHOWN = [
    "/views/workflow/w",
    "/views/workflow/w?at=1",
    "/views/workflow/w/diff?from=0",
    "/events/workflow/w",
    "/history/events",
    "/replay/workflow/w?speed=max",
]
_STREAMED = ["/stream/workflow/w", "/stream/workflow/w?types=workflow_progress", "/stream?topic=workflow:w"]


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every request come from another tenant's reader."""

    def _stranger(_: object) -> Reader:
        return Reader("strangers")

    monkeypatch.setattr(access, "reader_of", _stranger)
    monkeypatch.setattr("services.api.streams.reader_of", _stranger)


@pytest.mark.parametrize("target", _SHOWN)
async def test_what_is_another_tenants_is_not_shown(
    api: Api, producer: Producer, target: str, request: pytest.FixtureRequest
) -> None:
    await producer.progress("w", 71, message=_MARK)
    assert _MARK in (await api.client.get(target)).text
    request.getfixturevalue("stranger")
    assert _MARK not in (await api.client.get(target)).text


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("target", _STREAMED)
async def test_what_is_another_tenants_is_not_streamed(api: Api, producer: Producer, target: str) -> None:
    await producer.progress("w", 71, message=_MARK)
    async with api.watching(target) as stream:
        connected = await stream.next()
        assert connected.event == "connected"
        assert _MARK not in str(connected.data)


@pytest.mark.usefixtures("stranger")
async def test_topics_are_added_to_a_connection_in_the_name_of_who_adds_them(api: Api, producer: Producer) -> None:
    await producer.progress("w", 71, message=_MARK)
    body, kind = b'{"topics": ["workflow:other"]}', {"Content-Type": "application/json"}
    async with api.watching("/stream", kind, body=body) as stream:
        connection = (await stream.next()).data["connection_id"]
        added = await api.client.post(f"/stream/connections/{connection}/topics", json={"add": ["workflow:w"]})
        assert added.json() == {"topics": ["workflow:other", "workflow:w"]}
        await stream.next()
        assert _MARK not in str([frame.data for frame in stream.frames])


def test_no_other_module_of_the_api_names_a_tenant() -> None:
    naming = {file.name for file in _API.rglob("*.py") if "DEFAULT_TENANT" in file.read_text(encoding="utf-8")}
    assert naming == {"access.py"}
