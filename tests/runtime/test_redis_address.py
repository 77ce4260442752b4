"""What a REDIS_URL says, in all its forms, and that its passwords stay in it."""

import pytest
from pydantic import ValidationError

from core.runtime.redis_address import RedisAddressError, parse_address, safe_address
from core.runtime.settings import Settings


def test_a_cluster_is_given_by_some_of_its_nodes() -> None:
    where = parse_address("redis+cluster://10.0.0.1:7000,ten.example,[::1]:7002")
    assert where.shape == "cluster"
    assert where.nodes == (("10.0.0.1", 7000), ("ten.example", 6379), ("::1", 7002))
    assert where.options == {}


def test_a_master_is_found_through_its_sentinels() -> None:
    where = parse_address("redis+sentinel://ada:p%40ss%3A@a:26380,b/main/3")
    assert where.shape == "sentinel"
    assert where.nodes == (("a", 26380), ("b", 26379))
    assert where.service == "main"
    assert where.options == {"username": "ada", "password": "p@ss:", "db": 3}
    assert where.sentinel_options == {}


def test_sentinels_have_a_password_of_their_own_and_share_the_tls_files() -> None:
    where = parse_address("rediss+sentinel://:p@a/main?sentinel_password=s%26t&ssl_ca_certs=/ca.pem")
    assert where.options == {"password": "p", "ssl": True, "ssl_ca_certs": "/ca.pem"}
    assert where.sentinel_options == {"password": "s&t", "ssl": True, "ssl_ca_certs": "/ca.pem"}


def test_a_cluster_over_tls() -> None:
    where = parse_address("rediss+cluster://a:1,b:2?ssl_ca_certs=/ca.pem")
    assert where.options == {"ssl": True, "ssl_ca_certs": "/ca.pem"}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://:hush@a", "begins with http"),
        ("redis+cluster://:hush@", "where host:port should be"),
        ("redis+cluster://:hush@a:1,,b:2", "where host:port should be"),
        ("redis+cluster://:hush@a:b", "where host:port should be"),
        ("redis+cluster://:hush@a:1/3", "a Cluster has only 0"),
        ("redis+sentinel://:hush@a:1", "lacks the service"),
    ],
)
def test_an_address_nobody_can_connect_to_is_refused_in_words_without_the_password(address: str, message: str) -> None:
    with pytest.raises(RedisAddressError, match=message) as refused:
        parse_address(address)
    assert "hush" not in str(refused.value)


def test_settings_refuse_it_at_start_and_do_not_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis+sentinel://:hush@a:1")
    with pytest.raises(ValidationError, match="lacks the service") as refused:
        Settings()
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("redis://:sec/ret@h:1/0", "redis://h:1/0"),
        ("redis+sentinel://h:1/main?sentinel_password=p@ss", "redis+sentinel://"),
        ("rediss://ada:hush@a:1/2?ssl_ca_certs=/x", "rediss://a:1/2"),
        ("redis+cluster://:hush@a:1,b:2", "redis+cluster://a:1,b:2"),
        ("redis+sentinel://:hush@a:1,b:2/main/3?sentinel_password=hush", "redis+sentinel://a:1,b:2/main/3"),
        ("redis://:hu@sh@a:1", "redis://a:1"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address: str, safe: str) -> None:
    assert safe_address(address) == safe
