"""compose.yaml: hardened services, pinned images, files and options that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.cli.app import build_app
from deployments.settings import INSTALLED_ENCODER, Settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def content(name: str) -> Any:
    return yaml.safe_load(re.sub(r"\$\{\w+:-(\w*)\}", r"\1", COMPOSE["configs"][name]["content"]))


def sources(service: dict[str, Any]) -> list[list[str]]:
    return [volume.split(":") for volume in service.get("volumes", [])]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened_pinned_and_on_this_machine_only(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert re.search(r":[\w.-]+$", service["image"]) and not service["image"].endswith(":latest")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_exists(name: str) -> None:
    for source, *_ in sources(SERVICES[name]):
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], source
    for config in SERVICES[name].get("configs", []):
        assert config["source"] in COMPOSE["configs"]


def test_every_volume_and_config_is_used() -> None:
    used = {source for service in SERVICES.values() for source, *_ in sources(service)}
    assert set(COMPOSE["volumes"]) <= used
    assert set(COMPOSE["configs"]) == {c["source"] for service in SERVICES.values() for c in service.get("configs", [])}


def test_the_service_is_told_what_it_knows() -> None:
    service = SERVICES["modelyard"]
    up, *options = service["command"]
    assert up in {command.name for command in build_app().registered_commands}
    values = dict(zip(options[::2], options[1::2], strict=True))
    assert {name.removeprefix("--").replace("-", "_") for name in values} <= set(Settings.model_fields)
    settings = Settings.from_env({key: re.sub(r"\$\{\w+:-\}", "", v) for key, v in service["environment"].items()})
    assert settings.store == "redis://valkey:6379/0" and settings.otlp_endpoint == "http://jaeger:4318"
    assert [values["--nodes"]] == [target for source, target, *_ in sources(service) if source == "./examples/nodes"]
    defaults = dict(re.findall(r"^ARG (\w+)=(.*)$", (ROOT / "Dockerfile").read_text(), re.M))
    assert set(service["build"]["args"]) <= set(defaults)


def test_the_image_holds_the_models_of_the_nodes_that_it_runs() -> None:
    packages = set(SERVICES["modelyard"]["build"]["args"]["MODELS"].split())
    pins = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    nodes = "".join(file.read_text() for file in (ROOT / "examples" / "nodes").glob("*.yaml"))
    encoder = INSTALLED_ENCODER.partition("/")[0]
    needed = {name.replace("_", "-") for name in [encoder, *re.findall(r"pkg://(\w+)", nodes)]}
    assert needed <= packages <= pins


def test_prometheus_scrapes_the_service_and_reads_the_charts_alerts() -> None:
    config = content("prometheus")
    scrape, ray = config["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": ["modelyard:8000"]}] and "authorization" in scrape
    command = SERVICES["modelyard"]["command"]
    port = int(command[command.index("--metrics-port") + 1])
    assert ray["static_configs"] == [{"targets": [f"modelyard:{port + 1}"]}]
    mounted = {target: source for source, target, *_ in sources(SERVICES["prometheus"])}
    assert [mounted[file] for file in config["rule_files"]] == ["./helm/modelyard/files/alerts.yaml"]


def test_grafana_finds_its_sources_and_the_charts_dashboard() -> None:
    addresses = {source["type"]: source["url"] for source in content("grafana-sources")["datasources"]}
    assert addresses == {"prometheus": "http://prometheus:9090", "jaeger": "http://jaeger:16686"}
    (provider,) = content("grafana-dashboards")["providers"]
    mounted = {target: source for source, target, *_ in sources(SERVICES["grafana"])}
    assert (ROOT / mounted[provider["options"]["path"]] / "dashboard.json").exists()


def test_compose_and_chart_run_the_same_versions() -> None:
    values = yaml.safe_load((ROOT / "helm" / "modelyard" / "values.yaml").read_text())
    for name, image in (("valkey", values["redis"]["valkey"]["image"]), ("jaeger", values["jaeger"]["image"])):
        assert SERVICES[name]["image"] == f"{image['repository']}:{image['tag']}"
