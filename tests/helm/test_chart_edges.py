"""Odd but allowed: long and numeric names, labels of the user's own, address blocks, what is left to drain."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest
import yaml
from helm_tools import CHART, Helm, Manifest, only, pod_templates, problems

ODD = """
apiKey: {existingSecret: "123", key: "true"}
image: {pullSecrets: ["123"]}
expertSecrets: ["456"]
expertsFrom: ["null"]
redis: {valkey: {existingSecret: "12", key: "1", persistence: {enabled: true, storageClass: "5"}}}
ray: {auth: {existingSecret: "0"}}
cache: {existingClaim: "7"}
head: {priorityClassName: "99"}
serviceAccount: {name: "1"}
ingress: {enabled: true, className: "1", hosts: ["1"], tls: [{secretName: "1"}]}
jaeger: {enabled: true}
fullnameOverride: "null"
workerGroups:
  "on":
    {replicas: 1, minReplicas: 0, maxReplicas: 1, cpus: 0, resources: {requests: {cpu: 1}, limits: {cpu: 1}}}
"""

VLLM = "http://vllm.ai.svc:8000/v1"


def release(helm: Helm, name: str, namespace: str = "models") -> list[Manifest]:
    done = helm.run("template", name, CHART, "--namespace", namespace)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if item]


def test_long_names_that_begin_alike_stay_apart(helm: Helm) -> None:
    begin = "production-europe-west-modelyard-canary-blue-"
    one, two = (only(release(helm, begin + end), "RayService")["metadata"]["name"] for end in ("one", "two"))
    assert one != two and len(one) == len(two) == 41


@pytest.mark.parametrize(("name", "namespace"), [("true", "2024"), ("a.b", "null")])
def test_names_that_look_like_other_types_stay_text(helm: Helm, name: str, namespace: str) -> None:
    manifests = release(helm, name, namespace)
    assert [problem for manifest in manifests for problem in problems(manifest)] == []
    for manifest in manifests:
        assert manifest["metadata"]["namespace"] == namespace and "." not in manifest["metadata"]["name"]
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == name


def test_a_release_called_by_a_number_is_told_what_to_do(helm: Helm) -> None:
    done = helm.run("template", "123", CHART)
    assert done.returncode and "set fullnameOverride" in done.stderr


def test_names_of_secrets_classes_and_groups_stay_text(helm: Helm) -> None:
    manifests = helm.manifests(yaml.safe_load(ODD))
    assert [problem for manifest in manifests for problem in problems(manifest)] == []
    (group,) = (g for g in groups(manifests) if g["groupName"] == "on")
    assert group["rayStartParams"]["num-cpus"] == "0"


def groups(manifests: list[Manifest]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = only(manifests, "RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    return found


def test_labels_of_the_user_select_and_replace_nothing(helm: Helm) -> None:
    own = {"app.kubernetes.io/part-of": "platform", "app.kubernetes.io/name": "x", "app.kubernetes.io/component": "web"}
    head = {"podLabels": {"app.kubernetes.io/name": "x", "modelyard/group": "z"}}
    manifests = helm.manifests({"commonLabels": own, "jaeger": {"enabled": True}, "head": head})
    assert only(manifests, "RayService")["metadata"]["labels"]["app.kubernetes.io/part-of"] == "platform"
    for name, template in pod_templates(manifests):
        labels = template["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "modelyard" and labels["app.kubernetes.io/component"] != "web", name
        assert labels.get("modelyard/group") != "z"
        assert "helm.sh/chart" not in labels or template.get("kind") == "Pod", name  # a new chart replaces no pod


def test_variables_of_the_user_win(helm: Helm) -> None:
    text = "a\n\"b\" 'c' {{ .Values }} %d"
    own = [{"name": "HF_HOME", "value": "/models"}, {"name": "TEXT", "value": text}, {"name": "NUMBER", "value": "123"}]
    for name, template in pod_templates([only(helm.manifests({"extraEnv": own}), "RayService")]):
        variables = [(v["name"], v.get("value")) for v in template["spec"]["containers"][0]["env"]]
        values = dict(variables)
        assert len(variables) == len(values), name
        assert (values["HF_HOME"], values["TEXT"], values["NUMBER"]) == ("/models", text, "123")


def test_containers_of_the_user_come_after_rays(helm: Helm) -> None:
    mounts = [{"name": "tmp", "mountPath": "/tmp", "readOnly": True}]
    logs = {"name": "logs", "image": "fluent-bit:4", "volumeMounts": mounts}
    manifests = helm.manifests({"extraContainers": [logs], "extraInitContainers": [{"name": "i", "image": "i:1"}]})
    assert problems(only(manifests, "RayService")) == []
    for _, template in pod_templates([only(manifests, "RayService")]):
        assert template["spec"]["containers"][1] == logs and template["spec"]["initContainers"][0]["name"] == "i"


def test_blocks_are_left_out_only_of_those_that_they_lie_in(helm: Helm) -> None:
    cidrs = ["10.0.0.0/8", "169.254.0.0/15", "128.0.0.0/1", "::/0"]
    excepted = ["169.254.0.0/16", "10.1.0.0/16", "fd00::/8"]
    manifests = helm.manifests({"networkPolicy": {"upstreams": {"cidrs": cidrs, "except": excepted}}})
    (rule,) = (rule for rule in only(manifests, "NetworkPolicy", "trial-modelyard")["spec"]["egress"]
               if any("ipBlock" in to and to["ipBlock"]["cidr"] == "::/0" for to in rule.get("to", [])))  # fmt: skip
    blocks = {to["ipBlock"]["cidr"]: to["ipBlock"].get("except", []) for to in rule["to"]}
    assert set(blocks) == set(cidrs)
    networks = {text: ipaddress.ip_network(text) for text in cidrs + excepted}
    for cidr, found in blocks.items():
        within = [e for e in excepted if networks[e].version == networks[cidr].version]
        assert found == [e for e in within if networks[e].subnet_of(networks[cidr])]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://c.ns:4319/x", 4319), ("https://otlp.example.com", 443), ("http://c", 80), ("http://[::1]:4320", 4320)],
)
def test_the_port_of_the_collector_is_open(helm: Helm, url: str, port: int) -> None:
    policy = only(helm.manifests({"telemetry": {"otlpEndpoint": url}}), "NetworkPolicy", "trial-modelyard")["spec"]
    assert [{"port": port, "protocol": "TCP"}] in [rule["ports"] for rule in policy["egress"] if "to" not in rule]


def test_an_upgrade_changes_nothing_that_kubernetes_holds_fixed(helm: Helm) -> None:
    before = helm.manifests({"jaeger": {"enabled": True}})
    persistent = {"persistence": {"enabled": True, "size": "2Gi"}, "existingSecret": "v"}
    image = {"image": {"tag": "9"}}
    after = helm.manifests({"jaeger": {"enabled": True} | image, "redis": {"valkey": persistent | image}})
    for kind in ("StatefulSet", "Deployment"):
        fixed = [
            {
                key: value
                for key, value in only(m, kind)["spec"].items()
                if key not in ("template", "replicas", "strategy")
            }
            for m in (before, after)
        ]
        assert fixed[0] == fixed[1], kind
    claim = only(after, "PersistentVolumeClaim")
    (volume,) = only(after, "StatefulSet")["spec"]["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"} and problems(claim) == []


def test_workers_may_drain_until_their_pod_must_end(helm: Helm) -> None:
    manifests = helm.manifests({"terminationGracePeriodSeconds": 130, "settings": {"drain_s": 120}})
    seconds = {
        name: [v["value"] for v in template["spec"]["containers"][0]["env"] if "DRAIN" in v["name"]]
        for name, template in pod_templates([only(manifests, "RayService")])
    }
    assert seconds == {"head": [], "workers": ["120"]}


def test_places_of_gateways_are_json_once_kuberay_takes_off_the_quotes(helm: Helm) -> None:
    (group,) = groups(helm.manifests())
    assert json.loads(group["rayStartParams"]["resources"].strip("'\"` ")) == {"modelyard_gateway": 1}


def test_an_autoscaled_head_writes_its_log_where_the_others_do(helm: Helm) -> None:
    cluster = only(helm.manifests(None, CHART / "values-production.yaml"), "RayService")["spec"]["rayClusterConfig"]
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    for mounts in (head["volumeMounts"], cluster["autoscalerOptions"]["volumeMounts"]):
        assert {"name": "tmp", "mountPath": "/tmp/ray", "subPath": "ray"} in mounts


@pytest.mark.parametrize("end", ["", "\n", "\n\n\n"])
def test_an_expert_keeps_the_lines_that_its_template_ends_with(helm: Helm, end: str) -> None:
    experts = [
        {
            "name": name,
            "kind": "llama_cpp",
            "model": "hf://org/name/file.gguf",
            "description": "'a' \"b\" %s {{ x }} # c: d",
            "template": f"{{input}}\n  é{end}",
        }
        for name in ("law", "tax")
    ]
    files = only(helm.manifests({"experts": experts}), "ConfigMap", "-experts")["data"]
    assert [yaml.safe_load(text) for text in files.values()] == experts


def test_each_release_has_its_own_absence(helm: Helm) -> None:
    rules = only(helm.manifests({"metrics": {"prometheusRule": {"enabled": True}}}), "PrometheusRule")["spec"]["groups"]
    (rule,) = (rule for group in rules for rule in group["rules"] if rule["alert"] == "ModelyardGatewayGone")
    assert 'namespace="models", service="trial-modelyard-metrics"' in rule["expr"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ingress": {"enabled": True, "hosts": ["*.a.example"]}}, ["URL=http://any.a.example", "WARNING: apiKey"]),
        ({"settings": {"oidc_issuer": "https://l.example", "oidc_audience": "us"}}, ["a token of https://l.example"]),
        (
            {"experts": [{"name": "a", "kind": "openai", "description": "A.", "model": "m", "endpoint": VLLM}]},
            ["experts[0].endpoint is inside the cluster", "experts[0].endpoint is at port 8000"],
        ),
    ],
    ids=str,
)
def test_the_notes_tell_what_is_so(helm: Helm, values: dict[str, Any], words: list[str]) -> None:
    notes = helm.template(values, notes=True).partition("NOTES:")[2]
    assert all(word in notes for word in words), notes
    assert ("WARNING: apiKey" in notes) is ("settings" not in values)
