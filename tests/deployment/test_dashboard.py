"""The dashboard shows metrics that exist."""

import json
import re
from typing import Any

import pytest
from prometheus_client import REGISTRY

import services.api.metrics
import services.ingest.metrics
import services.projector.metrics
import services.worker.metrics
from tests.deployment.compose import ROOT, read_yaml

DECLARED = (services.api.metrics, services.ingest.metrics, services.projector.metrics, services.worker.metrics)
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
DASHBOARD: dict[str, Any] = json.loads((ROOT / "ops/grafana/dashboards/pipai.json").read_text(encoding="utf-8"))
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['id']}{target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]


def series() -> set[str]:
    """The names under which Prometheus finds what the services declare."""
    return {f"{metric.name}{suffix}" for metric in REGISTRY.collect() for suffix in SUFFIXES.get(metric.type, ())}


def labels() -> set[str]:
    """Every label some metric has: those in the sources of the modules that declare them, and a histogram's own."""
    sources = [(ROOT / f"{module.__name__.replace('.', '/')}.py").read_text(encoding="utf-8") for module in DECLARED]
    lists = [found for source in sources for found in re.findall(r"\[(\"[a-z\", ]+\")\]", source)]
    return {name for found in lists for name in re.findall(r"\w+", found)} | {"le"}


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_is_about_metrics_and_labels_that_exist(query: str) -> None:
    names = set(re.findall(r"pipai_\w+", query))
    assert names
    assert names <= series()
    grouped = {name for found in re.findall(r"by \(([^)]*)\)", query) for name in re.findall(r"\w+", found)}
    assert grouped <= labels()


def test_panels_have_ids_of_their_own_and_the_provisioned_data_source() -> None:
    source = read_yaml("ops/grafana/provisioning/datasources/prometheus.yml")["datasources"][0]
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
