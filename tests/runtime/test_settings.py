"""Which Redis is used, and that secrets stay secret."""

import pytest
from pydantic import ValidationError
from redis.asyncio import Redis

from core.runtime.redis import blocking_client, command_client, safe_address
from core.runtime.settings import Settings

TOKEN = "pa/ss:w@rd?#%é"  # noqa: S105 - nobody's
UPSTASH = {"UPSTASH_REDIS_REST_URL": "https://eu1-name-123.upstash.io", "UPSTASH_REDIS_REST_TOKEN": TOKEN}


@pytest.fixture(autouse=True)
def no_redis_of_the_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", *UPSTASH):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def upstash(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in UPSTASH.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("upstash")
def test_the_upstash_pair_is_a_redis_over_tls_whatever_is_in_the_token() -> None:
    address = Settings().redis_address()
    assert address.startswith("rediss://default:")
    client = Redis.from_url(address)
    options = client.connection_pool.connection_kwargs
    assert options["host"] == "eu1-name-123.upstash.io"
    assert options["port"] == 6379
    assert options["username"] == "default"
    assert options["password"] == TOKEN


def test_an_upstash_address_without_scheme_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTASH_REDIS_REST_URL", "eu1-name-123.upstash.io")
    monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", "t")
    assert Settings().redis_address() == "rediss://default:t@eu1-name-123.upstash.io:6379"


@pytest.mark.usefixtures("upstash")
def test_redis_url_wins_over_the_upstash_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://10.0.0.1:6380/2")
    assert Settings().redis_address() == "redis://10.0.0.1:6380/2"


def test_without_any_it_is_the_redis_of_this_machine() -> None:
    assert Settings().redis_address() == "redis://127.0.0.1:6379/0"


def test_an_upstash_address_without_a_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTASH_REDIS_REST_URL", "https://eu1-name-123.upstash.io")
    with pytest.raises(ValidationError, match="UPSTASH_REDIS_REST_TOKEN is not"):
        Settings()


@pytest.mark.usefixtures("upstash")
def test_secrets_are_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://user:confidential@host")
    settings = Settings()
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "confidential" not in text
        assert TOKEN not in text
    monkeypatch.setenv("STREAM_BLOCK_TIME", "-1")
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert "confidential" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("redis://user:secret@host:6380/1", "redis://host:6380/1"),
        ("rediss://default:p%40ss@name.upstash.io:6379", "rediss://name.upstash.io:6379"),
        ("redis://host", "redis://host"),
    ],
)
def test_an_address_is_shown_without_user_and_password(address: str, safe: str) -> None:
    assert safe_address(address) == safe


def test_a_reader_waits_longer_than_its_blocking_read() -> None:
    """Otherwise a quiet stream looks like a dead Redis."""
    for block_ms in (10, 1000, 60_000):
        options = blocking_client("redis://host", block_ms).connection_pool.connection_kwargs
        assert options["socket_timeout"] > block_ms / 1000 + 1
    assert command_client("redis://host").connection_pool.connection_kwargs["socket_timeout"] <= 5


@pytest.mark.parametrize("prefix", ["", "a b", "a:b", "{a}", "x" * 51])
def test_a_prefix_that_would_break_keys_is_refused(prefix: str) -> None:
    with pytest.raises(ValidationError, match="key_prefix"):
        Settings(key_prefix=prefix)
