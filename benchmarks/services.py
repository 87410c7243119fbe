"""The services that the gateway's benchmark starts, each a process of its own that it ends again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.load import tree

START_S = 240.0
SLOW_MACHINE = {"RAY_raylet_start_wait_time_s": "120"}
"""A busy machine takes longer to start Ray than Ray waits."""
NODES = """\
name: legal
kind: openai
description: Law, contracts, tenancy and liability
endpoint: http://127.0.0.1:{port}/v1
model: fixed
limits: {{concurrency: 256}}
examples:
  - Is this indemnity clause enforceable?
  - My landlord kept my deposit
  - Is a verbal agreement binding?
  - Review the limitation of liability in section 9
  - Who is liable if a visitor slips on ice?
---
name: code
kind: openai
description: Programming, debugging and software design
endpoint: http://127.0.0.1:{port}/v1
model: fixed
limits: {{concurrency: 256}}
examples:
  - Write a Python function that reverses a list
  - Why does this program crash?
  - Explain this stack trace
  - Write a unit test for this class
  - How do I undo the last git commit?
"""
LITELLM = """\
model_list:
  - model_name: fixed
    litellm_params: {{model: openai/fixed, api_base: "http://127.0.0.1:{port}/v1", api_key: none}}
"""
LITELLM_KEY = "sk-benchmark-of-the-loopback-0000000000"


@dataclass(frozen=True)
class Service:
    """A running service."""

    name: str
    port: int
    pid: int

    def processes(self) -> list[psutil.Process]:
        """Return every process of the service."""
        return tree(self.pid)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(
    name: str,
    command: list[str],
    port: int,
    ready: str | Path,
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Service]:
    """Start a service and wait until its URL answers with 200, or its file is there; end it in every case."""
    log = folder / f"{name}.log"
    variables = os.environ | SLOW_MACHINE | dict(environment or {})
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=variables, start_new_session=True)
    try:
        _await(name, process, ready, log)
        yield Service(name, port, process.pid)
    finally:
        _end(process)


def _await(name: str, process: subprocess.Popen[bytes], ready: str | Path, log: Path) -> None:
    limit = time.monotonic() + START_S
    while time.monotonic() < limit:
        if process.poll() is not None:
            break
        if isinstance(ready, Path):
            if ready.exists():
                return
        else:
            try:
                if httpx.get(ready, timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
        time.sleep(0.3)
    raise RuntimeError(f"{name} did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    left = tree(process.pid)[1:]
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for each in left:  # what a service left behind
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue


def upstream(folder: Path) -> AbstractContextManager[Service]:
    """Start the upstream."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.upstream_app", str(port)]
    return started("upstream", command, port, f"http://127.0.0.1:{port}/", folder)


def bare_serve(folder: Path, upstream_port: int) -> AbstractContextManager[Service]:
    """Start Ray Serve with a no-op, a no-op behind one hop, and a pass-through."""
    port = free_port()
    ready = folder / "bare-serve-ready"
    command = [sys.executable, "-m", "benchmarks.bare_serve", str(port), str(ready), str(upstream_port)]
    return started("bare-serve", command, port, ready, folder)


def modelyard(
    folder: Path, name: str, upstream_port: int, environment: Mapping[str, str] | None = None
) -> AbstractContextManager[Service]:
    """Start Modelyard with two nodes on the upstream."""
    port = free_port()
    nodes = folder / name
    nodes.mkdir()
    (nodes / "nodes.yaml").write_text(NODES.format(port=upstream_port))
    command = [sys.executable, "-m", "deployments.cli", "up", "--nodes", str(nodes), "--port", str(port)]
    command += ["--store", f"sqlite:///{folder}/{name}.db", "--allow-private", "--json"]
    return started(name, command, port, f"http://127.0.0.1:{port}/readyz", folder, environment)


def litellm(folder: Path, program: Path, upstream_port: int) -> AbstractContextManager[Service]:
    """Start LiteLLM's proxy, from an environment of its own, with one worker."""
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(LITELLM.format(port=upstream_port))
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    environment = {"LITELLM_MASTER_KEY": LITELLM_KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    return started("litellm", command, port, f"http://127.0.0.1:{port}/health/liveliness", folder, environment)
