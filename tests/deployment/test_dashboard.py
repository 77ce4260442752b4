"""The dashboard shows every metric there is, and none that does not exist."""

import json
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.deployment.compose import ROOT, read_yaml
from tests.deployment.metrics import asked_for, declared, faults_in

DASHBOARD: dict[str, Any] = json.loads((ROOT / "ops/grafana/dashboards/pipai.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SHOWN = [panel for panel in PANELS if panel["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in SHOWN
    for target in panel["targets"]
]


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_is_about_metrics_labels_and_reasons_that_exist(query: str) -> None:
    assert asked_for(query)
    assert faults_in(query) == []


def test_every_metric_of_ours_is_in_a_panel() -> None:
    shown = {name for panel in SHOWN for target in panel["targets"] for name in asked_for(target["expr"])}
    assert declared().keys() - shown == set()


def test_panels_have_ids_of_their_own_a_sentence_and_the_provisioned_data_source() -> None:
    source = read_yaml("ops/grafana/provisioning/datasources/prometheus.yml")["datasources"][0]
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert {panel["datasource"]["uid"] for panel in SHOWN} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    assert all(panel["description"].endswith(".") for panel in SHOWN)


def test_panels_lie_beside_each_other_within_the_width() -> None:
    places = [panel["gridPos"] for panel in PANELS]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


@pytest.mark.promtool
def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    queries = [str(query.values[0]).replace("$__rate_interval", "1m") for query in QUERIES]
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    told = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 0, told.stdout + told.stderr
