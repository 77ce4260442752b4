"""What the settings of the api change for its viewers and for pages of other origins."""

import pytest
from pydantic import ValidationError

from services.api.settings import ApiSettings
from tests.api.conftest import Api, Serve

OURS = "https://app.example"


async def test_the_reconnect_settings_are_told_to_viewers(serve: Serve) -> None:
    async with (
        serve(reconnect_interval=1234, max_reconnect_attempts=9, heartbeat_interval=30) as api,
        api.watching("/stream/workflow/w") as stream,
    ):
        connected = await stream.next()
    assert connected.retry == 1234
    assert connected.data["retry"] == 1234
    assert connected.data["attempts"] == 9
    assert connected.data["heartbeat"] == 30


async def test_only_pages_of_allowed_origins_may_read(serve: Serve) -> None:
    async with serve(cors_origins=f"https://other.example, {OURS}") as api:
        for path in ("/stream/health", "/views/workflow/none", "/stream/workflow/w?cursor=x"):
            answer = await api.client.get(path, headers={"Origin": OURS})
            assert answer.headers["access-control-allow-origin"] == OURS
            for origin in ("https://evil.example", f"{OURS}.evil.example", "http://app.example", "null"):
                answer = await api.client.get(path, headers={"Origin": origin})
                assert "access-control-allow-origin" not in answer.headers
        async with api.watching("/stream/workflow/w", {"Origin": OURS}) as stream:
            assert stream.headers["access-control-allow-origin"] == OURS
            assert "origin" in stream.headers["vary"].lower()


async def test_a_preflight_allows_what_viewers_send(serve: Serve) -> None:
    async with serve(cors_origins=OURS) as api:
        asked = {
            "Origin": OURS,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization,cache-control,last-event-id",
        }
        assert (await api.client.options("/stream/workflow/w", headers=asked)).status_code == 200
        answer = await api.client.options("/stream/workflow/w", headers={**asked, "Origin": "https://evil.example"})
        assert answer.status_code == 400


async def test_a_star_allows_any_origin_but_no_credentials(serve: Serve) -> None:
    async with serve(cors_origins="*") as api:
        answer = await api.client.get("/stream/health", headers={"Origin": OURS})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


async def test_no_origin_is_allowed_unless_set(api: Api) -> None:
    answer = await api.client.get("/stream/health", headers={"Origin": OURS})
    assert "access-control-allow-origin" not in answer.headers


def test_every_variable_of_the_specification_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "STREAM_MAX_ENTRIES": "500",
        "STREAM_BLOCK_TIME": "250",
        "RECONNECT_INTERVAL": "1500",
        "MAX_RECONNECT_ATTEMPTS": "0",
        "DEBUG": "true",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = ApiSettings()
    assert settings.stream_max_entries == 500
    assert settings.stream_block_time == 250
    assert settings.reconnect_interval == 1500
    assert settings.max_reconnect_attempts == 0
    assert settings.debug is True


@pytest.mark.parametrize(
    ("name", "value"), [("reconnect_interval", 0), ("heartbeat_interval", 0), ("max_reconnect_attempts", -1)]
)
def test_values_that_would_hurt_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValidationError, match=name):
        ApiSettings.model_validate({name: value})
