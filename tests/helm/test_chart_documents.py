"""The chart's README, schema, dashboard and alerts say what is so."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import ray.serve
import yaml
from helm_tools import CHART, ROOT, Helm, only

from deployments.metrics import Metrics

DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text())
ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
VARIABLES = {"$__rate_interval": "5m", "$node": "law", "$namespace": ".*"}


def exported() -> dict[str, set[str]]:
    """Return every series that a gateway exports, with its labels."""
    found = {}
    for metric in Metrics().registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(metric.type, [""])
        for suffix in suffixes:
            found[metric.name + suffix] = {"le"} if suffix == "_bucket" else set()
    for collector in Metrics().registry._collector_to_names:
        own = vars(collector)
        for name, labels in found.items():
            if name.startswith(own.get("name") or own["_name"]):
                labels.update(own.get("label_names") or own["_labelnames"])
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for rule in RULES:
        yield rule["alert"], rule["expr"]


def series(expression: Any) -> Iterator[Any]:
    """Yield the vector selectors of a parsed expression."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for name in ("expr", "lhs", "rhs", "vector_selector", "args", "vs"):
        inner = getattr(expression, name, None)
        for one in inner if isinstance(inner, list) else [inner]:
            if one is not None and not isinstance(one, str):
                yield from series(one)


def parsed(expression: str) -> Any:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return promql_parser.parse(expression)


@pytest.mark.parametrize(("title", "expression"), list(expressions()))
def test_every_query_parses_and_names_series_that_exist(title: str, expression: str) -> None:
    selectors = list(series(parsed(expression)))
    assert selectors, title
    ours = exported()
    source = "\n".join(path.read_text() for path in (Path(ray.serve.__path__[0]) / "_private").glob("*.py"))
    for selector in selectors:
        if selector.name == "up":  # Prometheus's own
            assert {matcher.value for matcher in selector.matchers.matchers} <= {"modelyard"}
        elif selector.name.startswith("ray_"):
            assert f'"{selector.name.removeprefix("ray_")}"' in source, selector.name
        else:
            assert selector.name in ours, selector.name
            asked = {matcher.name for matcher in selector.matchers.matchers}
            grouped = set(re.findall(r"by \(([^)]*)\)", expression)[0].split(", ")) if "by (" in expression else set()
            known = ours[selector.name] | {"namespace"}  # which Prometheus adds to what it scrapes in Kubernetes
            assert asked | grouped <= known, (title, asked | grouped)


def test_every_series_is_on_the_dashboard() -> None:
    shown = " ".join(expression for _, expression in expressions())
    missing = {name for name in exported() if not re.search(rf"{re.sub('_(bucket|sum|count)$', '', name)}", shown)}
    assert missing == set()


def test_the_dashboard_lays_its_panels_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


def test_every_alert_says_what_to_do() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names)) >= 5
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        assert re.match(r"1\. ", rule["annotations"]["runbook"]), rule["alert"]
        assert "$labels" not in rule["expr"]


def test_rule_and_dashboard_are_the_files_word_for_word(helm: Helm) -> None:
    own = {"name": "own", "rules": [{"alert": "Own", "expr": "up == 0"}]}
    metrics = {"prometheusRule": {"enabled": True, "extraGroups": [own]}, "dashboard": {"enabled": True}}
    manifests = helm.manifests({"metrics": metrics})
    ours = ', namespace="models", service="trial-modelyard-metrics"}'
    groups = only(manifests, "PrometheusRule")["spec"]["groups"]
    assert json.loads(json.dumps(groups).replace(json.dumps(ours)[1:-1], "}")) == [*ALERTS["groups"], own]
    assert json.loads(only(manifests, "ConfigMap", "-dashboard")["data"]["modelyard.json"]) == DASHBOARD


def test_the_table_and_the_schema_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "helm" / "generate.py", "--check"],
        env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_value_has_its_comment_and_its_schema() -> None:
    text = (CHART / "values.yaml").read_text()
    commented = {key for key, _, _ in runpy.run_path(str(ROOT / "helm" / "generate.py"))["rows"](text)}
    schema = json.loads((CHART / "values.schema.json").read_text())
    free = ("podSecurityContext", "securityContext", "resources", "dashboard.labels")

    def walk(values: dict[str, Any], schema: dict[str, Any], prefix: str) -> None:
        for name, value in values.items():
            key = prefix + name
            known = schema.get("properties", {}).get(name)
            if prefix.startswith("workerGroups."):
                known = known or schema["additionalProperties"]["properties"][name]
            elif prefix != "workerGroups.":
                assert known is not None, key
            has_leaves = isinstance(value, dict) and value and not key.endswith(free)
            assert key in commented or has_leaves, key
            if has_leaves and not key.startswith("workerGroups"):
                walk(value, known, key + ".")

    walk(yaml.safe_load(text), schema, "")


def test_the_alert_of_absence_asks_for_what_prometheus_calls_our_targets(helm: Helm) -> None:
    manifests = helm.manifests({"metrics": {"serviceMonitor": {"enabled": True}}})
    endpoints = {endpoint["port"] for endpoint in only(manifests, "ServiceMonitor")["spec"]["endpoints"]}
    compose = (ROOT / "compose.yaml").read_text()
    (rule,) = (rule for rule in RULES if rule["alert"] == "ModelyardGatewayGone")
    endpoint, job = re.findall(r'(?:endpoint|job)="(\w+)"', rule["expr"])
    assert endpoint in endpoints and f"job_name: {job}" in compose
