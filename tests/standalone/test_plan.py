"""What `./run up` would start, and where."""

import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from core.runtime import ports
from core.runtime.ports import free_port, next_free_port, port_is_free
from services.standalone import embedded, plan
from services.standalone.embedded import MissingProgramError, find_redis_server
from services.standalone.plan import BusyPortError, Plan, choose_ports, external_redis, make_plan
from services.standalone.settings import StandaloneSettings

UPSTASH = {
    "UPSTASH_REDIS_REST_URL": "https://some-name.upstash.io",
    "UPSTASH_REDIS_REST_TOKEN": "t0ken/with+signs",
}
ANY_PORT = {"PORT": "0", "METRICS_PORT": "0", "REDIS_PORT": "0", "TEMPORAL_PORT": "0", "TEMPORAL_UI_PORT": "0"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test sets counts; every port is any free one."""
    for name in [*UPSTASH, "REDIS_URL", "TEMPORAL_ADDRESS", "TEMPORAL_PROFILE", "HOST"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", "/nowhere/temporal.toml")
    for name, value in ANY_PORT.items():
        monkeypatch.setenv(name, value)


def settings_of(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> StandaloneSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return StandaloneSettings()


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, None),
        ({"REDIS_URL": "redis://elsewhere:1/0"}, "redis://elsewhere:1/0"),
        (UPSTASH, "rediss://default:t0ken%2Fwith%2Bsigns@some-name.upstash.io:6379"),
        ({"REDIS_URL": "redis://elsewhere:1/0", **UPSTASH}, "redis://elsewhere:1/0"),
    ],
    ids=["nothing named", "REDIS_URL", "Upstash", "REDIS_URL wins over Upstash"],
)
def test_a_redis_that_is_named_is_used(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str | None
) -> None:
    assert external_redis(settings_of(monkeypatch, variables)) == url


@pytest.mark.parametrize(
    ("programs", "found"),
    [
        ({"redis-server": "Redis server v=7.0.15 sha=0"}, "redis-server"),
        ({"valkey-server": "Valkey server v=8.1.1 sha=0"}, "valkey-server"),
        ({"redis-server": "Redis server v=6.2.1 sha=0", "valkey-server": "Server v=7.2.5"}, "valkey-server"),
        ({"redis-server": "Redis server v=6.2.1 sha=0"}, "packaged"),
        ({"redis-server": "something else"}, "packaged"),
        ({}, "packaged"),
    ],
    ids=["redis 7", "valkey", "redis too old, valkey", "redis too old", "not a redis", "nothing on PATH"],
)
def test_the_first_new_enough_server_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, programs: dict[str, str], found: str
) -> None:
    """On PATH redis-server, then valkey-server; else the one of the package."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, version in programs.items():
        put_program(tmp_path / name, f"echo '{version}'")
    monkeypatch.setattr(embedded, "packaged_redis", lambda: put_program(tmp_path / "packaged", "exit"))
    assert find_redis_server() == tmp_path / found


def test_without_any_redis_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded, "packaged_redis", lambda: None)
    with pytest.raises(MissingProgramError, match=r"install redis-server or valkey-server, version 7\.0 or newer"):
        find_redis_server()


def test_everything_is_told_where_redis_and_temporal_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = make_plan(settings_of(monkeypatch, {}), tmp_path)
    servers = {service.name: service for service in made.stages[0]}
    assert list(servers) == ["redis", "temporal"]
    assert names(made) == ["projector", "archiver", "worker", "web"]
    for service in made.stages[1]:
        assert service.environment["REDIS_URL"] == servers["redis"].address
        assert service.environment["TEMPORAL_ADDRESS"] == servers["temporal"].address


def test_named_servers_are_not_started_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Passwords in an address are for the services, not for the table."""
    variables = {"REDIS_URL": "redis://me:secret@elsewhere:1/0", "TEMPORAL_ADDRESS": "somewhere:7233"}
    made = make_plan(settings_of(monkeypatch, variables), tmp_path)
    assert made.stages[0] == []
    assert dict(made.table)["temporal"] == "somewhere:7233"
    assert dict(made.table)["redis"] == "redis://elsewhere:1/0"
    assert "secret" not in str(made.table)


def test_without_a_temporal_program_the_rest_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nothing(*_: object) -> None:
        raise MissingProgramError

    monkeypatch.setattr(plan, "temporal_server", nothing)
    made = make_plan(settings_of(monkeypatch, {}), tmp_path)
    assert names(made) == ["projector", "archiver", "web"]
    assert dict(made.table)["temporal"].startswith("not configured")


def test_without_an_archive_there_is_no_archiver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = make_plan(settings_of(monkeypatch, {"ARCHIVE_URL": "off"}), tmp_path)
    assert names(made) == ["projector", "worker", "web"]


@pytest.mark.parametrize("variable", ["PORT", "METRICS_PORT"])
def test_a_taken_port_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BusyPortError, match=rf"Port {port} .* is taken.*`{variable}=\d+ \./run up`"):
            choose_ports(settings_of(monkeypatch, {variable: str(port)}))


def test_the_metrics_ports_are_the_documented_ones_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    def always_free(_port: int) -> bool:
        return True

    monkeypatch.setattr(plan, "port_is_free", always_free)
    monkeypatch.delenv("METRICS_PORT")
    ports = choose_ports(StandaloneSettings())
    assert (ports.web_metrics, ports.worker_metrics, ports.archiver_metrics) == (9402, 9403, 9404)
    assert ports.projector_metrics == (9410,)


def test_several_projectors_have_a_name_and_a_metrics_port_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = make_plan(settings_of(monkeypatch, {"STREAM_PARTITIONS": "2"}), tmp_path, projectors=4)
    assert names(made) == ["projector", "projector-2", "projector-3", "projector-4", "archiver", "worker", "web"]
    projectors = made.stages[1][:4]
    assert len({service.environment["METRICS_PORT"] for service in projectors}) == 4
    assert len({tuple(service.command) for service in projectors}) == 1
    assert dict(made.table)["projectors"] == "4 share STREAM_PARTITIONS=2: 2 stand by"
    assert dict(made.table)["metrics of projector-3"] == projectors[2].address


def test_the_first_of_several_projectors_keeps_the_documented_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def free_but_for_one(port: int) -> bool:
        return port != 9411

    monkeypatch.setattr(plan, "port_is_free", free_but_for_one)
    monkeypatch.setattr(ports, "port_is_free", free_but_for_one)
    monkeypatch.delenv("METRICS_PORT")
    assert choose_ports(StandaloneSettings(), 3).projector_metrics == (9410, 9412, 9413)


def test_the_next_free_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert port < next_free_port(port) < port + 100


def test_no_client_gets_a_port_that_was_chosen_for_a_server() -> None:
    chosen = [free_port() for _ in range(50)]
    assert len(set(chosen)) == 50
    assert all(20_000 <= port < 32_768 and port_is_free(port) for port in chosen)


def test_a_port_that_is_served_on_all_addresses_is_not_free() -> None:
    with socket.create_server(("0.0.0.0", 0)) as other:  # noqa: S104 - for the length of one look
        assert not port_is_free(other.getsockname()[1])


def test_a_port_that_just_ended_is_free_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
    assert port_is_free(port)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1"])  # noqa: S104 - it is refused
def test_only_loopback_is_served(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    with pytest.raises(ValidationError, match="only a loopback address is served"):
        settings_of(monkeypatch, {"HOST": host})


def names(made: Plan) -> list[str]:
    return [service.name for service in made.stages[1]]


def put_program(path: Path, line: str) -> Path:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path
