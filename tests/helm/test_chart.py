"""The chart, rendered by helm itself and checked as an API server would."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_tools import CHART, Helm, Manifest, only, pod_templates, problems, serve_config

VALUES = ("values.yaml", "values-laptop.yaml", "values-production.yaml")
EXPERT = {"name": "law", "kind": "openai", "description": "Law.", "endpoint": "https://a.example/v1", "model": "m"}
SWITCHES: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("switches.yaml").read_text())


@pytest.fixture(scope="session", params=[*VALUES, *SWITCHES])
def rendered(request: pytest.FixtureRequest, helm: Helm) -> list[Manifest]:
    if request.param in SWITCHES:
        return helm.manifests(SWITCHES[request.param])
    return helm.manifests(None, CHART / request.param)


@pytest.mark.parametrize("values", VALUES)
def test_lint_has_nothing_to_say(helm: Helm, values: str) -> None:
    done = helm.run("lint", "--strict", CHART, "--values", CHART / values)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_api_server_takes_every_manifest(rendered: list[Manifest]) -> None:
    assert [problem for manifest in rendered for problem in problems(manifest)] == []


def test_what_an_api_server_would_drop_is_found(helm: Helm) -> None:
    service = only(helm.manifests(), "RayService")
    service["spec"]["rayClusterConfig"]["headGroupSpec"]["templates"] = {}
    budget = only(helm.manifests(None, CHART / "values-production.yaml"), "PodDisruptionBudget")
    budget["spec"]["maximum"] = 1
    assert "templates" in problems(service)[0] and "maximum" in problems(budget)[0]


def test_objects_are_named_labelled_and_told_apart(rendered: list[Manifest]) -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in rendered]
    assert len(names) == len(set(names))
    for manifest in rendered:
        if manifest["metadata"]["name"] == "trial-own":
            continue  # a manifest of the user's own
        labels = manifest["metadata"]["labels"]
        assert manifest["metadata"]["namespace"] == "models"
        assert labels["app.kubernetes.io/name"] == "modelyard" and labels["app.kubernetes.io/instance"] == "trial"
        assert len(manifest["metadata"]["name"]) <= 63


def test_every_pod_fits_the_restricted_standard(rendered: list[Manifest]) -> None:
    for name, template in pod_templates(rendered):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert not any("hostPath" in volume for volume in spec.get("volumes", [])), name
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"], name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            for bound in ("requests", "limits"):
                assert {"cpu", "memory"} <= container["resources"][bound].keys(), name
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounted <= {volume["name"] for volume in spec.get("volumes", [])}, name


def test_only_the_autoscaler_may_speak_with_kubernetes(rendered: list[Manifest]) -> None:
    cluster = only(rendered, "RayService")["spec"]["rayClusterConfig"]
    for name, template in pod_templates(rendered):
        wanted = name == "head" and cluster["enableInTreeAutoscaling"]
        assert template["spec"]["automountServiceAccountToken"] is wanted, name
    if cluster["enableInTreeAutoscaling"]:
        options = cluster["autoscalerOptions"]
        assert options["securityContext"]["readOnlyRootFilesystem"] and options["resources"]["limits"]["memory"]


def test_secrets_are_named_and_never_written_down(rendered: list[Manifest]) -> None:
    assert not any(manifest["kind"] == "Secret" for manifest in rendered)
    for name, template in pod_templates(rendered):
        for container in template["spec"]["containers"]:
            for variable in container.get("env", []):
                if re.search(r"KEY|PASSWORD|TOKEN|SECRET", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], (name, variable)
    for manifest in rendered:
        if manifest["kind"] == "ConfigMap":
            for text in (manifest.get("data") or {}).values():
                for found in re.findall(r"(?im)^\s*(?:api_key|authorization|token|password|secret):\s*(.+)$", text):
                    assert re.fullmatch(r"\$\{\w+\}", found), found


def test_variables_are_set_once(rendered: list[Manifest]) -> None:
    for name, template in pod_templates(rendered):
        for container in template["spec"]["containers"]:
            names = [variable["name"] for variable in container.get("env", [])]
            assert len(names) == len(set(names)), name


def test_services_policies_and_budgets_select_pods(rendered: list[Manifest]) -> None:
    labels = [template["metadata"]["labels"] for _, template in pod_templates(rendered)]
    for manifest in rendered:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Service":
            selector = spec["selector"]
        elif manifest["kind"] in ("NetworkPolicy", "PodDisruptionBudget"):
            selector = (spec.get("podSelector") or spec.get("selector"))["matchLabels"]
        else:
            continue
        assert any(selector.items() <= pod.items() for pod in labels), manifest["metadata"]["name"]


def test_experts_that_change_replace_no_pod(helm: Helm) -> None:
    before = helm.manifests({"experts": [EXPERT]})
    after = helm.manifests({"experts": [EXPERT | {"description": "Statutes."}, EXPERT | {"name": "tax"}]})
    assert only(before, "RayService")["spec"] == only(after, "RayService")["spec"]
    sums = [
        only(manifests, "RayService")["metadata"]["annotations"]["checksum/experts"] for manifests in (before, after)
    ]
    assert sums[0] != sums[1]
    assert set(only(after, "ConfigMap", "-experts")["data"]) == {"law.yaml", "tax.yaml"}
    folder = serve_config(after)["applications"][0]["args"]["nodes"]
    for _, template in pod_templates([only(after, "RayService")]):
        mounts = {mount["mountPath"]: mount for mount in template["spec"]["containers"][0]["volumeMounts"]}
        assert [mounts[path]["name"] for path in folder] == ["experts"]


def test_the_head_serves_nothing_and_comes_back(helm: Helm) -> None:
    spec = only(helm.manifests(None, CHART / "values-production.yaml"), "RayService")["spec"]
    cluster = spec["rayClusterConfig"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["authOptions"] == {"mode": "token", "secretName": "modelyard-ray"}
    redis = cluster["gcsFaultToleranceOptions"]
    assert redis["redisAddress"] == "rediss://redis.databases.svc:6379"
    assert redis["redisPassword"]["valueFrom"]["secretKeyRef"] == {"name": "modelyard-redis", "key": "redis-password"}
    assert spec["excludeHeadPodFromServeSvc"] and spec["upgradeStrategy"] == {"type": "NewCluster"}
    assert "workers" not in [group["groupName"] for group in cluster["workerGroupSpecs"]]


def test_only_those_who_are_named_come_in(helm: Helm) -> None:
    manifests = helm.manifests(None, CHART / "values-production.yaml")
    policy = only(manifests, "NetworkPolicy", "trial-modelyard")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    ports = {port["port"]: rule for rule in policy["ingress"] for port in rule.get("ports", [])}
    assert all(rule.get("from") for rule in policy["ingress"])
    assert "kuberay-operator" in str(ports[8265]["from"]) and 6379 not in ports and 10001 not in ports
    blocks = [to["ipBlock"] for rule in policy["egress"] for to in rule.get("to", []) if "ipBlock" in to]
    assert blocks == [{"cidr": "169.254.20.10/32"}, {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}]
    anywhere = [{port["port"] for port in rule["ports"]} for rule in policy["egress"] if not rule.get("to")]
    assert anywhere == [{4318}]  # the collector's
    autoscaler = only(manifests, "NetworkPolicy", "-autoscaler")["spec"]
    assert autoscaler["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "ray-head"


def test_gateways_are_scraped_one_by_one(helm: Helm) -> None:
    manifests = helm.manifests(None, CHART / "values-production.yaml")
    monitor = only(manifests, "ServiceMonitor")["spec"]
    service = only(manifests, "Service", "modelyard-metrics")["spec"]
    assert service["clusterIP"] == "None" and service["publishNotReadyAddresses"]
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} == {port["name"] for port in service["ports"]}
    (gateway,) = (t for n, t in pod_templates(manifests) if n == "gateways")
    container = gateway["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["gateway"] == serve_config(manifests)["applications"][0]["args"]["metrics_port"]
    opened = {
        port["port"]
        for rule in only(manifests, "NetworkPolicy", "trial-modelyard")["spec"]["ingress"]
        for port in rule.get("ports", [])
    }
    assert {ports["gateway"], ports["metrics"]} <= opened


def test_routes_lead_to_the_service_that_kuberay_makes(helm: Helm) -> None:
    manifests = helm.manifests(SWITCHES["everything"])
    name = only(manifests, "RayService")["metadata"]["name"] + "-serve-svc"
    ingress = only(manifests, "Ingress")["spec"]
    assert ingress["rules"][0]["http"]["paths"][0]["backend"]["service"] == {"name": name, "port": {"number": 8000}}
    assert ingress["tls"] == [{"secretName": "tls", "hosts": ["a.example"]}]
    route = only(manifests, "HTTPRoute")["spec"]
    assert route["rules"][0]["backendRefs"] == [{"name": name, "port": 8000}]
    test = only(manifests, "Pod")["spec"]["containers"][0]
    assert {"name": "MODELYARD_URL", "value": f"http://{name}:8000"} in test["env"]


def test_manifests_of_the_user_may_be_templates(helm: Helm) -> None:
    assert only(helm.manifests(SWITCHES["everything"]), "ConfigMap", "trial-own")


@pytest.mark.parametrize("values", VALUES)
def test_the_notes_say_how_to_ask(helm: Helm, values: str) -> None:
    notes = helm.template(None, CHART / values, notes=True).partition("NOTES:")[2]
    assert "/v1/chat/completions" in notes
    assert ("WARNING: apiKey" in notes) is ("production" not in values)
    assert "base64decode" in notes or "production" not in values


def test_names_stay_within_kuberays_bound(helm: Helm) -> None:
    manifests = helm.manifests({"nameOverride": "a" * 60})
    assert len(only(manifests, "RayService")["metadata"]["name"]) <= 41


def test_the_versions_of_the_chart_are_those_of_the_package() -> None:
    import tomllib

    root = CHART.parents[1]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    pins = dict(line.split("==") for line in Path(root / "constraints.txt").read_text().splitlines() if "==" in line)
    assert yaml.safe_load((CHART / "values.yaml").read_text())["ray"]["version"] == pins["ray"]
