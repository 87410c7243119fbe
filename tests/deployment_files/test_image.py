"""The image's recipe, which nothing here can build: linted, and held against what it is made of."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from deployments.settings import Settings

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CHART = yaml.safe_load((ROOT / "helm" / "modelyard" / "values.yaml").read_text())


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """The instructions with their values, in order."""
    with (ROOT / "Dockerfile").open("rb") as file:
        structure = DockerfileParser(fileobj=file).structure
    return [(item["instruction"], item["value"]) for item in structure if item["instruction"] != "COMMENT"]


def value(steps: list[tuple[str, str]], instruction: str) -> str:
    return [text for name, text in steps if name == instruction][-1]


def environment(steps: list[tuple[str, str]]) -> dict[str, str]:
    return dict(part.split("=", 1) for part in value(steps, "ENV").split())


def test_hadolint_has_nothing_to_say() -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert program is not None
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_the_base_can_be_pinned_and_every_stage_stands_on_it(steps: list[tuple[str, str]]) -> None:
    assert steps[0][0] == "ARG" and re.fullmatch(r"BASE=[\w./-]+:[\w.-]+", steps[0][1])
    assert {text.split()[0] for name, text in steps if name == "FROM"} == {"${BASE}"}
    minimum = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert f"python:{minimum}-" in steps[0][1]  # the version that constraints.txt was made with


def test_it_runs_as_the_user_of_the_chart(steps: list[tuple[str, str]]) -> None:
    context = CHART["podSecurityContext"]
    assert value(steps, "USER") == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_what_is_written_lies_in_volumes(steps: list[tuple[str, str]]) -> None:
    volumes = json.loads(value(steps, "VOLUME"))
    variables = environment(steps)
    settings = Settings.from_env({key: text for key, text in variables.items() if key.startswith("MODELYARD_")})
    written = [variables["HOME"], variables["HF_HOME"], settings.store.removeprefix("sqlite:///"), "/tmp/ray"]
    assert all(any(Path(path).is_relative_to(volume) for volume in volumes) for path in written)


def test_it_starts_the_service_and_asks_whether_it_lives(steps: list[tuple[str, str]]) -> None:
    command = [*json.loads(value(steps, "ENTRYPOINT")), *json.loads(value(steps, "CMD"))]
    assert command == ["/usr/bin/tini", "--", "modelyard", "up"] and "modelyard" in PROJECT["project"]["scripts"]
    assert environment(steps)["MODELYARD_HOST"] == "0.0.0.0"
    (probe,) = (text for name, text in steps if name == "HEALTHCHECK")
    assert "/healthz" in json.loads(probe.partition("CMD ")[2])[-1]
    needed = {"tini", "wget"}  # the entry point, and the probes of this image and of KubeRay
    assert any(needed <= set(text.split()) for name, text in steps if name == "RUN")


def test_haproxy_is_the_one_that_the_chart_names(steps: list[tuple[str, str]]) -> None:
    program = environment(steps)["RAY_SERVE_HAPROXY_BINARY_PATH"]
    assert any(text.endswith(f"deployments/haproxy.sh {program}") for name, text in steps if name == "COPY")
    template = (ROOT / "helm" / "modelyard" / "templates" / "_pod.tpl").read_text()
    assert f"value: {program}\n" in template
    assert any("*.sh" in patterns for patterns in PROJECT["tool"]["setuptools"]["package-data"].values())


def test_extras_and_models_are_known(steps: list[tuple[str, str]]) -> None:
    defaults = dict(text.split("=", 1) for name, text in steps if name == "ARG")
    assert set(defaults["EXTRAS"].split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    pins = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert set(defaults["MODELS"].split()) <= pins


def test_what_is_copied_exists_and_is_let_through(steps: list[tuple[str, str]]) -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [text.split()[:-1] for name, text in steps if name == "COPY" and "--from" not in text]
    sources = {source for sources in copied for source in sources if not source.startswith("--")}
    assert sources >= {"graph", "router", "deployments", "pyproject.toml", "constraints.txt"}
    for source in sources:
        assert (ROOT / source).exists() and source.split("/")[0] in kept, source
    packages = {pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= sources and fnmatch.fnmatch("README.md", PROJECT["project"]["readme"])
