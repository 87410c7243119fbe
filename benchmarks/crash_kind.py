"""A kind that is hosted in a process of its own and asks an upstream, so that what a killed node did can be counted."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from deployments.nodes.http import HttpNode


class HostedHttpNode(HttpNode):
    """Kind `http`, in a Serve application of its own."""

    placement: ClassVar[Literal["gateway", "replica"]] = "replica"


def install(folder: Path) -> None:
    """Write what makes the kind `hosted_http` installed for processes with this folder on their path."""
    about = folder / "modelyard_crash_kind-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: modelyard-crash-kind\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[modelyard.kinds]\nhosted_http = benchmarks.crash_kind:HostedHttpNode\n")
