"""The list of all settings."""

import pytest

from services.standalone.settings_table import CLASSES, DOCUMENT, document, print_settings

SPECIFIED = (
    "UPSTASH_REDIS_REST_URL",
    "UPSTASH_REDIS_REST_TOKEN",
    "STREAM_MAX_ENTRIES",
    "STREAM_BLOCK_TIME",
    "RECONNECT_INTERVAL",
    "MAX_RECONNECT_ATTEMPTS",
    "DEBUG",
)


def test_the_page_of_all_settings_is_up_to_date() -> None:
    """If not: `.venv/bin/python -m services.standalone.settings_table --write`."""
    assert DOCUMENT.read_text() == document()


@pytest.mark.parametrize("name", SPECIFIED)
def test_every_variable_of_the_specification_is_listed(name: str) -> None:
    assert f"| `{name}` |" in document()


def test_every_setting_says_what_it_does() -> None:
    silent = [
        f"{service}: {name}"
        for service, settings in CLASSES.items()
        for name, field in settings.model_fields.items()
        if not field.description
    ]
    assert silent == []


def test_what_is_set_is_never_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("REDIS_URL", "UPSTASH_REDIS_REST_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "redis://me:a-secret@host/0")
    assert print_settings() == 0
    assert "a-secret" not in capsys.readouterr().out + document()
