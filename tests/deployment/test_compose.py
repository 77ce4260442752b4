"""docker-compose.yml starts what `./run up` starts."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from core.runtime.settings import Settings
from services.admin.erase import DocumentSettings
from services.api.settings import ApiSettings
from services.archiver.settings import ArchiverSettings
from services.ingest.form import OVERHEAD_BYTES
from services.ingest.settings import IngestSettings
from services.projector.settings import ProjectorSettings
from services.standalone.embedded import redis_server, temporal_server
from services.standalone.plan import DOCUMENTED_METRICS, make_plan
from services.standalone.settings import StandaloneSettings
from services.worker.settings import WorkerSettings
from tests.deployment.compose import OWN_IMAGE, ROOT, Service, environment, own_services, read_yaml, services

SETTINGS: dict[str, type[Settings]] = {
    "ingest": IngestSettings,
    "api": ApiSettings,
    "projector": ProjectorSettings,
    "archiver": ArchiverSettings,
    "worker": WorkerSettings,
}

OPERATED_IN = "projector"
"""Where `pipai-admin` is run."""

every_service = pytest.mark.parametrize("service", [pytest.param(each, id=name) for name, each in services().items()])
every_own_service = pytest.mark.parametrize("name", sorted(own_services()))


@pytest.fixture
def no_settings_of_the_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what this machine has set out of the plan."""
    for settings in (*SETTINGS.values(), StandaloneSettings):
        for name in settings.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("no_settings_of_the_surroundings")
def test_the_services_and_their_commands_are_those_of_run_up(tmp_path: Path) -> None:
    """The web process of `./run up` is api and ingest in one; here each is its own."""
    plan = make_plan(StandaloneSettings(port=0, metrics_port=0), tmp_path)
    planned = {service.name: service.command[1:] for stage in plan.stages for service in stage}
    assert {"redis", "temporal", "web"} <= planned.keys()
    for name in ("redis", "temporal", "web"):
        del planned[name]
    expected = {**planned, "api": ["-m", "services.api"], "ingest": ["-m", "services.ingest"]}
    assert {name: service["command"] for name, service in own_services().items()} == {
        name: ["python", *arguments] for name, arguments in expected.items()
    }
    assert {"redis", "temporal"} <= services().keys()


def test_the_metrics_ports_are_those_of_run_up() -> None:
    ports = {name: int(environment(service)["METRICS_PORT"]) for name, service in own_services().items()}
    web, worker, archiver, projector = DOCUMENTED_METRICS
    assert ports == {"ingest": 9401, "api": web, "worker": worker, "archiver": archiver, "projector": projector}


def test_prometheus_scrapes_the_metrics_port_of_every_service() -> None:
    jobs = read_yaml("ops/prometheus/prometheus.yml")["scrape_configs"]
    scraped = {(name, found["port"]) for job in jobs for found in job["dns_sd_configs"] for name in found["names"]}
    assert scraped == {(name, int(environment(service)["METRICS_PORT"])) for name, service in own_services().items()}


@every_own_service
def test_how_many_partitions_there_are_is_said_once_for_all_containers(name: str) -> None:
    """In the file `.env`, as the README has it: a service with another number than the others does not start."""
    service = own_services()[name]
    assert service["env_file"] == [{"path": ".env", "required": False}]
    assert "STREAM_PARTITIONS" not in environment(service)


def test_the_projector_can_run_several_times() -> None:
    """A name or a published port is one container's alone; Prometheus asks the name server for all of them."""
    assert {"container_name", "hostname", "ports"}.isdisjoint(services()["projector"])
    jobs = read_yaml("ops/prometheus/prometheus.yml")["scrape_configs"]
    (found,) = next(job["dns_sd_configs"] for job in jobs if job["job_name"] == "projector")
    assert found["type"] == "A"


@every_own_service
def test_every_variable_is_a_setting_of_its_service(name: str) -> None:
    """Its value is one the service accepts, too."""
    given: dict[str, Any] = {key.lower(): value for key, value in environment(own_services()[name]).items()}
    known = SETTINGS[name].model_fields.keys()
    assert given.keys() <= known | (DocumentSettings.model_fields.keys() if name == OPERATED_IN else set())
    SETTINGS[name](**{key: value for key, value in given.items() if key in known})


@every_own_service
def test_a_service_can_be_reached_from_the_other_containers(name: str) -> None:
    given = environment(own_services()[name])
    listening = {key: value for key, value in given.items() if key.endswith("HOST")}
    expected = {"METRICS_HOST", "HOST"} if "host" in SETTINGS[name].model_fields else {"METRICS_HOST"}
    assert listening == dict.fromkeys(expected, "0.0.0.0")  # noqa: S104 - within its container


@every_own_service
def test_a_service_is_asked_for_its_readiness_where_it_listens(name: str) -> None:
    service = own_services()[name]
    given = environment(service)
    asked = re.search(r"http://127\.0\.0\.1:(\d+)/readyz", service["healthcheck"]["test"][-1])
    assert asked is not None
    assert asked.group(1) == given.get("PORT", given["METRICS_PORT"])


@every_own_service
def test_a_service_finds_redis_and_temporal_under_their_names(name: str) -> None:
    given = environment(own_services()[name])
    assert given["REDIS_URL"] == "redis://redis:6379/0"
    assert given["TEMPORAL_ADDRESS"] == "temporal:7233"


def test_ingest_and_worker_share_the_uploaded_files() -> None:
    ingest, worker = services()["ingest"], services()["worker"]
    assert environment(ingest)["STORAGE_URL"] == environment(worker)["STORAGE_URL"] == "file:///uploads"
    assert ingest["volumes"] == worker["volumes"] == ["uploads:/uploads"]


def test_who_erases_a_user_finds_documents_and_archive() -> None:
    operated, ingest, archiver = (services()[name] for name in (OPERATED_IN, "ingest", "archiver"))
    assert environment(operated)["STORAGE_URL"] == environment(ingest)["STORAGE_URL"]
    assert environment(operated)["ARCHIVE_URL"] == environment(archiver)["ARCHIVE_URL"]
    assert {*ingest["volumes"], "archive:/archive:ro"} == {*operated["volumes"]}


def test_redis_keeps_events_as_the_redis_of_run_up_does(tmp_path: Path) -> None:
    arguments = [part for argument in services()["redis"]["command"] for part in shlex.split(argument)]
    embedded = redis_server(tmp_path).command
    for option in ("--appendonly", "--appendfsync", "--auto-aof-rewrite-min-size", "--save", "--maxmemory-policy"):
        assert arguments[arguments.index(option) + 1] == embedded[embedded.index(option) + 1], option


def test_temporal_is_the_development_server_with_a_database_that_stays(tmp_path: Path) -> None:
    temporal = services()["temporal"]
    assert temporal["command"][1:3] == temporal_server(tmp_path).command[1:3] == ["server", "start-dev"]
    assert "--db-filename=/data/temporal.db" in temporal["command"]
    assert temporal["volumes"] == ["temporal:/data"]


@every_service
def test_nothing_is_published_beyond_this_machine(service: Service) -> None:
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
    assert "network_mode" not in service


def test_the_gateway_is_where_run_up_serves_the_page() -> None:
    assert services()["gateway"]["ports"] == [f"127.0.0.1:{StandaloneSettings.model_fields['port'].default}:8000"]


@every_service
def test_a_container_can_do_no_more_than_it_needs(service: Service) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit", "healthcheck", "stop_grace_period"} <= service.keys()
    assert service["restart"] == "unless-stopped"
    assert "privileged" not in service


@every_service
def test_a_service_waits_until_what_it_needs_is_healthy(service: Service) -> None:
    for name, how in service.get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert "healthcheck" in services()[name]


def test_the_gateway_knows_the_ports_of_api_and_ingest() -> None:
    config = (ROOT / "ops/gateway/nginx.conf").read_text(encoding="utf-8")
    known = set(re.findall(r"(api|ingest):(\d+);", config))
    assert known == {(name, environment(services()[name])["PORT"]) for name in ("api", "ingest")}


def test_the_gateway_lets_the_largest_upload_through() -> None:
    config = (ROOT / "ops/gateway/nginx.conf").read_text(encoding="utf-8")
    limit = re.search(r"client_max_body_size (\d+)m;", config)
    assert limit is not None
    assert int(limit.group(1)) * 2**20 > IngestSettings.model_fields["upload_max_bytes"].default + OVERHEAD_BYTES


def test_files_that_are_mounted_exist() -> None:
    volumes: list[Any] = [volume for service in services().values() for volume in service.get("volumes", [])]
    files = [volume.split(":")[0] for volume in volumes if volume.startswith("./")]
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_images_are_built_from_stages_of_the_dockerfile_that_run_as_a_user() -> None:
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    by_name = {stage.splitlines()[0].rpartition(" AS ")[2]: stage for stage in stages}
    targets = {service["build"]["target"] for service in services().values() if "build" in service}
    assert targets == {"services", "temporal"}
    assert all(re.search(r"^USER \w+$", by_name[target], flags=re.MULTILINE) for target in targets)
    assert {service["build"]["target"] for service in own_services().values()} == {"services"}
    assert OWN_IMAGE in {service["image"] for service in services().values()}
