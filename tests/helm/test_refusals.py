"""Wrong values are refused with a message that names the key."""

from __future__ import annotations

from typing import Any

import pytest
from helm_tools import Helm, Refused

EXPERT = {"name": "law", "kind": "openai", "description": "Law.", "endpoint": "https://a.example/v1", "model": "m"}
GGUF = {"name": "law", "kind": "llama_cpp", "description": "Law.", "model": "hf://org/name/file.gguf"}
ROOM = {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": 1, "memory": "1Gi"}}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"gatewey": {}}, ["gatewey", "not allowed"]),
        ({"gateway": {"replicas": "two"}}, ["/gateway/replicas", "want integer"]),
        ({"gateway": {"replicas": 0}}, ["/gateway/replicas", "minimum"]),
        ({"gateway": {"replicas": 2}}, ["gateway.replicas asks for 2 gateways", "raise their replicas"]),
        ({"gateway": {"autoscaling": {"enabled": True, "maxReplicas": 1}}}, ["autoscaling.minReplicas (2)"]),
        ({"image": {"digest": "sha256:abc"}}, ["/image/digest", "does not match"]),
        ({"image": {"pullPolicy": "Sometimes"}}, ["/image/pullPolicy", "'Always'"]),
        ({"ray": {"upgrade": {"type": "Rolling"}}}, ["/ray/upgrade/type", "'NewCluster'"]),
        (
            {"ray": {"upgrade": {"type": "NewClusterWithIncrementalUpgrade"}}},
            ["ray.upgrade.gatewayClassName is empty"],
        ),
        (
            {"ray": {"upgrade": {"type": "NewClusterWithIncrementalUpgrade", "gatewayClassName": "istio"}}},
            ["ray.autoscaling.enabled is false"],
        ),
        ({"workerGroups": {"GPU": {}}}, ["/workerGroups", "GPU"]),
        ({"workerGroups": {"gpu": {"replicas": 1}}}, ["/workerGroups/gpu", "missing"]),
        ({"workerGroups": {"workers": {"minReplicas": 2}}}, ["workerGroups.workers.minReplicas (2)"]),
        ({"workerGroups": {"workers": {"replicas": 5}}}, ["workerGroups.workers.replicas (5)"]),
        ({"workerGroups": {"workers": {"gateway": False}}}, ["room for 0"]),
        (
            {"workerGroups": {"workers": {"rayStartParams": {"resources": "{}"}}}},
            ["workerGroups.workers.rayStartParams.resources"],
        ),
        ({"workerGroups": {"workers": {"resources": {"limits": {"cpu": "much"}}}}}, ["/resources/limits/cpu"]),
        ({"redis": {"valkey": {"enabled": False}}}, ["redis.external.host is empty"]),
        ({"redis": {"external": {"host": "r.example"}}}, ["redis.external.host and redis.valkey.enabled"]),
        ({"redis": {"external": {"host": "redis://r.example"}}}, ["/redis/external/host"]),
        ({"redis": {"external": {"password": "p"}}}, ["/redis/external", "password"]),
        ({"apiKey": {"value": "secret"}}, ["/apiKey", "value"]),
        ({"telemetry": {"otlpEndpoint": "collector:4317"}}, ["/telemetry/otlpEndpoint"]),
        ({"telemetry": {"traceRatio": 2}}, ["/telemetry/traceRatio", "maximum"]),
        ({"settings": {"api_key": "secret"}}, ["settings.api_key is not set here but by apiKey.existingSecret"]),
        ({"settings": {"store": "redis://x"}}, ["settings.store is not set here but by redis"]),
        ({"settings": {"port": 80}}, ["settings.port", "leave it out"]),
        ({"settings": {"minProbability": 0.5}}, ["/settings", "minProbability"]),
        ({"settings": {"min_probability": 7}}, ["/settings/min_probability", "maximum"]),
        ({"settings": {"gate": True}}, ["/settings/gate", "'on', 'warn', 'off'"]),
        ({"settings": {"mcp_servers": "files=npx"}}, ["/settings/mcp_servers", "want array"]),
        ({"settings": {"oidc_issuer": "https://l.example"}}, ["settings.oidc_issuer needs settings.oidc_audience"]),
        ({"settings": {"drain_s": 60}}, ["terminationGracePeriodSeconds (60) must be at least 70", "settings.drain_s"]),
        ({"terminationGracePeriodSeconds": 40}, ["terminationGracePeriodSeconds (40) must be at least 45"]),
        ({"networkPolicy": {"upstreams": {"cidrs": ["everywhere"]}}}, ["/networkPolicy/upstreams/cidrs/0"]),
        ({"networkPolicy": {"clients": [{"namespace": "a"}]}}, ["/networkPolicy/clients/0", "namespace"]),
        ({"ingress": {"enabled": True}}, ["ingress.hosts is empty"]),
        ({"httpRoute": {"enabled": True}}, ["httpRoute.parentRefs is empty"]),
        ({"ingress": {"hosts": ["https://a.example"]}}, ["/ingress/hosts/0"]),
        ({"httpRoute": {"timeout": "60"}}, ["/httpRoute/timeout"]),
        ({"metrics": {"port": 80}}, ["/metrics/port", "minimum"]),
        ({"metrics": {"port": 8080}}, ["metrics.port (8080) is a port of Ray or HAProxy"]),
        (
            {"networkPolicy": {"upstreams": {"cidrs": ["10.0.0.256/8"]}}},
            ["networkPolicy.upstreams.cidrs[0]", "10.0.0.0/8"],
        ),
        (
            {"networkPolicy": {"clients": [{"podSelector": {"matchLabel": {}}}]}},
            ["/clients/0/podSelector", "matchLabel"],
        ),
        ({"commonLabels": {"team": "a b"}}, ["/commonLabels/team"]),
        ({"extraVolumes": [{"name": "tmp"}]}, ['extraVolumes[0].name: "tmp" is already the chart\'s']),
        (
            {"extraVolumeMounts": [{"name": "v", "mountPath": "/v"}]},
            ['no volume is called "v"; there is experts, home'],
        ),
        ({"extraContainers": [{"name": "ray-worker", "image": "i"}]}, ['extraContainers[0].name: "ray-worker"']),
        (
            {"networkPolicy": {"upstreams": {"cidrs": ["169.254.1.0/24"]}}},
            ["nothing of 169.254.1.0/24 is left by networkPolicy.upstreams.except 169.254.0.0/16"],
        ),
        ({"image": {"tag": 1.10}}, ["/image/tag", "want string"]),
        ({"image": {"repository": "modelyard:demo"}}, ["/image/repository"]),
        ({"workerGroups": {"workers": {"cpus": 1.5}}}, ["/workerGroups/workers/cpus"]),
        ({"workerGroups": {"workers": {"tolerations": [{"efect": "x"}]}}}, ["/tolerations/0", "efect"]),
        ({"gateway": {"cpus": 8}}, ["workerGroups.workers hands out 4 CPUs", "gateway.cpus"]),
        ({"extraEnv": [{"name": "A", "value": 1}]}, ["/extraEnv/0/value", "want string"]),
        ({"extraEnv": [{"name": "A"}, {"name": "A"}]}, ["extraEnv[1].name: A is already in extraEnv[0]"]),
        ({"extraEnv": [{"name": "MODELYARD_API_KEY", "value": "k"}]}, ["set by apiKey.existingSecret"]),
        ({"podDisruptionBudget": {"minAvailable": "50%"}}, ["/podDisruptionBudget/minAvailable", "want integer"]),
        ({"podDisruptionBudget": {"enabled": True}}, ["podDisruptionBudget.minAvailable (1)", "none of 1 gateways"]),
        ({"experts": [{"name": "law"}]}, ["/experts/0", "'kind', 'description'"]),
        ({"experts": [EXPERT | {"name": "Law"}]}, ["/experts/0/name"]),
        ({"experts": [EXPERT | {"descripton": "x"}]}, ["/experts/0", "descripton"]),
        ({"experts": [EXPERT | {"api_key": "sk-literal"}]}, ["/experts/0/api_key"]),
        ({"experts": [EXPERT | {"limits": {"total_s": -1}}]}, ["/experts/0/limits/total_s"]),
        ({"experts": [EXPERT | {"edges": {"fallback": ["tax"]}}]}, ["experts[0].edges.fallback", '"tax"']),
        (
            {"experts": [EXPERT | {"default": True}, EXPERT | {"name": "tax", "default": True}]},
            ["law and tax are both the default"],
        ),
        (
            {"experts": [EXPERT | {"name": f"law{n}", "system_prompt": "x" * 90_000} for n in range(12)]},
            ["experts take 108", "expertsFrom"],
        ),
        (
            {"experts": [EXPERT | {"kind": "opneai"}], "extraKinds": ["own"]},
            ['experts[0].kind: there is no kind "opneai"', "openai, plan", "own, and what extraKinds names"],
        ),
        (
            {"experts": [{"name": "a", "kind": "openai", "description": "A."}]},
            ["missing properties 'endpoint', 'model'"],
        ),
        ({"experts": [EXPERT | {"endpoint": "a.example/v1"}]}, ["/experts/0/endpoint", "^https?://"]),
        ({"experts": [EXPERT | {"endpoint": "https://u:p@a.example"}]}, ["/experts/0/endpoint", "^https?://"]),
        ({"experts": [GGUF | {"params": {"n_paralel": 2}}]}, ["/experts/0/params", "'n_paralel' not allowed"]),
        (
            {"experts": [GGUF | {"params": {"temperature": 9}, "context_window": "8k"}]},
            ["/params/temperature': maximum: got 9, want 2", "/context_window': got string, want null or integer"],
        ),
        ({"experts": [GGUF | {"kind": "mcp", "params": {}}]}, ["/experts/0/params", "missing property 'tool'"]),
        ({"experts": [GGUF | {"kind": "speech"}]}, ["/experts/0", "missing property 'accepts'"]),
        ({"experts": [EXPERT | {"template": "Be kind."}]}, ["/experts/0/template", "input"]),
        ({"experts": [EXPERT | {"name": "auto"}]}, ['experts[0].name: "auto" is a word of the service']),
        (
            {"experts": [EXPERT | {"edges": {"fallback": ["law"]}}]},
            ["experts[0].edges.fallback names the expert itself"],
        ),
        ({"experts": [EXPERT | {"cascade": {"valid_json": True}}]}, ["experts[0].cascade needs edges.escalates"]),
        ({"experts": [EXPERT | {"outputs": {"id": {}}}]}, ["experts[0].outputs", "produces: [json]"]),
        ({"experts": [EXPERT, EXPERT]}, ['experts[1].name: "law" is already declared in experts[0]']),
    ],
    ids=lambda value: str(value)[:120],
)
def test_a_wrong_value_is_refused_by_name(helm: Helm, values: dict[str, Any], words: list[str]) -> None:
    if "workerGroups" in values:
        for group in values["workerGroups"].values():
            group.get("resources", {}).setdefault("requests", ROOM["requests"])
    with pytest.raises(Refused) as caught:
        helm.template(values)
    for word in words:
        assert word in str(caught.value), str(caught.value)
