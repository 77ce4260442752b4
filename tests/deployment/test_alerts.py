"""The alerts are about metrics that exist, say what to do, and ring when they should."""

import re
import subprocess
from typing import Any

import pytest

from tests.deployment.compose import ROOT, own_services, read_yaml
from tests.deployment.metrics import asked_for, declared, faults_in

RULES = "ops/prometheus/rules/pipai.yml"
ALERTS: list[dict[str, Any]] = [rule for group in read_yaml(RULES)["groups"] for rule in group["rules"]]
RUNBOOK = (ROOT / "docs/guides/operations.md").read_text(encoding="utf-8")

WITHOUT_ALERT = {
    "pipai_projected_events_total": "work that is done",
    "pipai_delivered_events_total": "work that is done",
    "pipai_hub_changes_total": "work that is done",
    "pipai_uploaded_bytes_total": "work that is done",
    "pipai_active_streams": "load, which is nobody's fault",
    "pipai_watched_topics": "load, which is nobody's fault",
    "pipai_waiting_requests": "load, which is nobody's fault",
    "pipai_closed_workflows_total": "what became of workflows is their owners' business",
    "pipai_documents_total": "a document that cannot be read is its sender's business",
    "pipai_rejected_events_total": "a producer that sends nonsense is told so",
    "pipai_resets_total": "what viewers are told about a cause that has an alert of its own",
    "pipai_moved_views_total": "rivals: their partitions have an alert",
    "pipai_redriven_letters_total": "what an operator did",
    "pipai_purged_letters_total": "what an operator did",
    "pipai_dead_letters": "their age and their growth have alerts",
    "pipai_append_seconds": "slow appends show as refusals",
    "pipai_projection_seconds": "slow folding shows as lag",
    "pipai_archived_entries_total": "work that is done",
    "pipai_returned_topics_total": "work that is done",
    "pipai_unchecked_topics_total": "so many topics only begin where they are new; verify tells of any other",
    "pipai_archive_segments_total": "work that is done",
    "pipai_archive_written_bytes_total": "work that is done",
    "pipai_archive_compacted_segments_total": "work that is done",
    "pipai_archive_given_up_segments_total": "what ARCHIVE_RETENTION asks for",
    "pipai_document_step_seconds": "how long a document takes depends on the document",
}

every_alert = pytest.mark.parametrize("alert", [pytest.param(alert, id=alert["alert"]) for alert in ALERTS])


@every_alert
def test_an_alert_asks_for_metrics_labels_and_reasons_that_exist(alert: dict[str, Any]) -> None:
    assert faults_in(alert["expr"]) == []
    assert asked_for(alert["expr"]) or re.search(r"\bup\b", alert["expr"])


@pytest.mark.parametrize(
    "query",
    [
        "rate(pipai_lost_event_total[5m])",
        "pipai_lost_events_total{topic='x'} and pipai_lost_events_total{topic=\"x\"}",
        'pipai_rejected_requests_total{reason="no-such-reason"}',
        "sum by (kind) (pipai_lost_events_total)",
        "sum by (le) (pipai_lost_events_total)",
    ],
)
def test_a_query_about_what_is_not_there_is_noticed(query: str) -> None:
    assert len(faults_in(query)) == 1


@every_alert
def test_an_alert_says_how_bad_it_is_for_how_long_and_what_its_metric_is(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"\d+[ms]", alert["for"])
    said = alert["annotations"]
    assert said["summary"]
    named = set(re.findall(r"\bpipai_\w+", said["description"])) or {"up"}
    assert named <= declared().keys() | {"up"}
    assert named & (asked_for(alert["expr"]) | {"up"})


@every_alert
def test_an_alert_leads_to_its_own_section_of_the_runbook(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert alert["annotations"]["runbook"] == f"docs/guides/operations.md#{name.lower()}"
    assert len(re.findall(rf"^### {name}$", RUNBOOK, flags=re.MULTILINE)) == 1


def test_the_runbook_has_no_section_for_an_alert_that_is_gone() -> None:
    assert set(re.findall(r"^### (Pipai\w+)$", RUNBOOK, flags=re.MULTILINE)) == {alert["alert"] for alert in ALERTS}


def test_every_metric_has_an_alert_or_a_reason_to_have_none() -> None:
    alarming = {name for alert in ALERTS for name in asked_for(alert["expr"])}
    assert alarming | WITHOUT_ALERT.keys() == declared().keys()
    assert not alarming & WITHOUT_ALERT.keys()


def test_alerts_know_the_services_by_the_names_they_are_scraped_under() -> None:
    text = "\n".join(alert["expr"] for alert in ALERTS)
    jobs = {job for found in re.findall(r'job=~?"([^"]+)"', text) for job in found.split("|")}
    assert jobs == set(own_services())


def test_prometheus_loads_the_rules_from_where_its_container_has_them() -> None:
    assert read_yaml("ops/prometheus/prometheus.yml")["rule_files"] == ["rules/*.yml"]
    prometheus = read_yaml("docker-compose.yml")["services"]["prometheus"]
    assert "./ops/prometheus:/etc/prometheus:ro" in prometheus["volumes"]


@pytest.mark.promtool
@pytest.mark.parametrize(
    "check",
    [
        pytest.param(["check", "config", "ops/prometheus/prometheus.yml"], id="configuration"),
        pytest.param(["test", "rules", "ops/prometheus/tests/pipai.yml"], id="over time"),
    ],
)
def test_prometheus_takes_the_rules_and_rings_when_it_should(check: list[str]) -> None:
    told = subprocess.run(["promtool", *check], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 0, told.stdout + told.stderr
