"""What the chart tells Serve to run is the application of this package, with settings and experts that it takes."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
import yaml
from helm_tools import CHART, Helm, Manifest, only, pod_templates, serve_config
from ray.serve import Application
from ray.serve.schema import ServeDeploySchema

from deployments.app_names import GATEWAY
from deployments.intake import LEAST
from deployments.settings import Settings
from graph.errors import InvalidRequest
from graph.loader import load_text
from graph.model_graph import ModelGraph
from graph.node import installed_kinds
from graph.spec import RESERVED

READY = ("values-laptop.yaml", "values-production.yaml")


@pytest.fixture(scope="session", params=READY)
def ready(request: pytest.FixtureRequest, helm: Helm) -> list[Manifest]:
    return helm.manifests(None, CHART / request.param)


def test_serve_takes_the_configuration(ready: list[Manifest]) -> None:
    config = ServeDeploySchema.model_validate(serve_config(ready))
    (application,) = config.applications
    assert application.name == GATEWAY and application.route_prefix == "/"
    assert (config.http_options.host, config.http_options.port) == ("0.0.0.0", 8000)
    (gateway,) = application.deployments
    assert gateway.name == "gateway" and gateway.max_replicas_per_node == 1
    for name in application.model_fields_set | gateway.model_fields_set | set(serve_config(ready)):
        known = {type(config), type(application), type(gateway)}
        assert any(name in model.model_fields for model in known), name  # Serve ignores what it does not know


def test_its_import_path_builds_the_application(ready: list[Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    (declared,) = serve_config(ready)["applications"]
    module, _, name = declared["import_path"].partition(":")
    monkeypatch.setenv("MODELYARD_API_KEY", "from-a-secret")
    monkeypatch.setenv("MODELYARD_STORE", "redis://redis.example:6379/0")
    application = getattr(importlib.import_module(module), name)(declared["args"])
    assert isinstance(application, Application)
    gateway = application._bound_deployment
    assert gateway.name == declared["deployments"][0]["name"]
    settings = gateway.init_args[0]
    assert isinstance(settings, Settings)
    assert settings.api_key is not None and settings.store == "redis://redis.example:6379/0"
    assert settings.watch_nodes_s == declared["args"]["watch_nodes_s"] > 0


def test_a_wrong_setting_is_named_when_the_application_is_built() -> None:
    with pytest.raises(InvalidRequest, match=r"settings\.min_probability: .* got 7"):
        importlib.import_module("deployments.app").from_args({"min_probability": 7})


def test_a_busy_gateway_asks_for_another(ready: list[Manifest]) -> None:
    (gateway,) = serve_config(ready)["applications"][0]["deployments"]
    scaling = gateway.get("autoscaling_config", {"target_ongoing_requests": 1})
    assert scaling["target_ongoing_requests"] < LEAST  # what HAProxy lets in is all that the autoscaler sees


def test_the_drain_fits_into_the_pods_end(ready: list[Manifest]) -> None:
    drain = Settings(**serve_config(ready)["applications"][0]["args"]).drain_s
    for name, template in pod_templates([only(ready, "RayService")]):
        assert template["spec"]["terminationGracePeriodSeconds"] > drain, name


def test_what_the_chart_sets_itself_cannot_be_set_twice(helm: Helm) -> None:
    everything = helm.manifests({"telemetry": {"otlpEndpoint": "http://c:4318"}})
    args: dict[str, Any] = serve_config(everything)["applications"][0]["args"]
    secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    helpers = (CHART / "templates" / "_validate.tpl").read_text()
    (refused,) = re.findall(r"\$own := dict (.*?) -\}\}", helpers)
    places = dict(zip(*[iter(re.findall(r'"([^"]+)"', refused))] * 2, strict=True))
    assert {*args, *secret} <= set(places) <= set(Settings.model_fields)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert {place.split(".")[0] for place in places.values()} <= set(values)


def test_kinds_and_reserved_words_are_those_of_the_service(helm: Helm) -> None:
    helpers = (CHART / "templates" / "_validate.tpl").read_text()
    for line, ours in ((r"\$kinds := .*", set(installed_kinds())), (r"has \$expert\.name \(.*", RESERVED)):
        (found,) = re.findall(line, helpers)
        assert set(re.findall(r'"([^"]+)"', found)) == ours
    own = {"name": "law", "kind": "own", "description": "Law.", "params": {"free": 1}}
    assert helm.manifests({"experts": [own], "extraKinds": ["own"]})


def test_the_experts_are_a_graph_that_the_service_takes(ready: list[Manifest]) -> None:
    files = only(ready, "ConfigMap", "-experts")["data"]
    loaded = load_text("\n---\n".join(files.values()), installed_kinds())
    assert loaded.require() and ModelGraph(loaded.specs).problems() == ()
    assert {f"{spec.name}.yaml" for spec in loaded.specs} == set(files)
    assert sum(spec.default for spec in loaded.specs) == 1


def test_an_expert_keeps_what_looks_like_a_template(helm: Helm) -> None:
    expert = {"name": "law", "kind": "llama_cpp", "description": "{{ .Values }} {input}", "template": "${A}: {input}\n"}
    expert["model"] = "hf://org/name/file.gguf"
    (text,) = only(helm.manifests({"experts": [expert]}), "ConfigMap", "-experts")["data"].values()
    assert yaml.safe_load(text) == expert
