"""Microseconds of CPU that a request takes in a gateway's process, with tracing off, held and recorded, in one run.

python -m benchmarks.request_cost [--out FILE]

A routed call over the whole ASGI application and all policies, to a node in the same process that answers at once: no
socket, no model, no Ray. Rounds of the modes take turns, each in a process of its own; the best round counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import deployments.gateway
from deployments.api.app import create_app
from deployments.gateway import Gateway
from deployments.settings import Settings
from deployments.snapshot import NodeStatus, Snapshot
from graph.node import NodeParams
from graph.spec import NodeSpec
from graph.types import Call, Delta, Usage

MODES = {
    "off": {"trace_ratio": 0.0, "traces_per_s": 0.0, "trace_errors": False, "trace_slow_s": 0.0},
    "held: kept if it fails or is slow": {"traces_per_s": 0.0},
    "recorded": {"traces_per_s": 1e6},
}
TURNS, ROUNDS, CALLS = 2, 100, 20
BODY = json.dumps({"model": "law", "messages": [{"role": "user", "content": "Is this contract valid?"}]}).encode()


class EchoNode:
    """Answers at once, in two pieces."""

    Params = NodeParams
    placement = "gateway"
    operations = frozenset({"chat"})
    honours: frozenset[str] = frozenset()

    def __init__(self, *_: Any) -> None: ...

    async def load(self) -> None: ...

    async def run(self, call: Call) -> AsyncIterator[Delta]:
        yield Delta("Yes.")
        yield Delta(finish_reason="stop", usage=Usage(7, 2), model="echo")

    async def aclose(self) -> None: ...


class Controller:
    """Says that the nodes are ready."""

    def __init__(self, *specs: NodeSpec) -> None:
        nodes = {spec.name: NodeStatus(spec.name, 1, spec, "ready", spec, 1) for spec in specs}
        self._snapshot = Snapshot(1, nodes)
        self.watch = SimpleNamespace(remote=self._watch)

    async def _watch(self, after: int) -> Snapshot:
        if after >= 1:
            await asyncio.Event().wait()
        return self._snapshot


async def post(app: Any, body: bytes) -> None:
    """Send one chat request to an ASGI application."""
    scope = {
        "type": "http", "method": "POST", "path": "/v1/chat/completions", "raw_path": b"/v1/chat/completions",
        "root_path": "", "scheme": "http", "query_string": b"", "http_version": "1.1", "asgi": {"version": "3.0"},
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()
        asked = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise RuntimeError(f"status {message['status']}")

    await app(scope, receive, send)


async def best(work: Callable[[], Awaitable[None]]) -> float:
    """Microseconds of CPU of one call, all threads: the best of some rounds."""
    found = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(CALLS):
            await work()
        found.append((time.process_time() - begun) / CALLS * 1e6)
    return min(found)


async def measure(settings: dict[str, Any]) -> float:
    """Return what a request takes with these settings."""
    deployments.gateway.installed_kinds = lambda: {"echo": EchoNode}  # type: ignore[attr-defined,dict-item]
    spec = NodeSpec(name="law", kind="echo", description="Contracts and statutes.", examples=("Is it valid?",))
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{folder}/state.db"
        gateway = Gateway(Settings(store=store, strategy="keyword", **settings), Controller(spec))
        app = create_app(gateway, standalone=False)
        await gateway.start()
        while not gateway.ready:  # noqa: ASYNC110  # readiness has no event
            await asyncio.sleep(0.01)
        found = await best(lambda: post(app, BODY))
        await gateway.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file to write the figures to, as JSON")
    parser.add_argument("--mode", choices=list(MODES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mode:
        print(asyncio.run(measure(MODES[options.mode])))
        return
    load = os.getloadavg()
    found: dict[str, list[float]] = {name: [] for name in MODES}
    for _ in range(TURNS):
        for name in MODES:
            command = [sys.executable, "-m", "benchmarks.request_cost", "--mode", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name].append(float(done.stdout.split()[-1]))
    off = min(found["off"])
    for name, values in found.items():
        print(f"{name:<36}{min(values):8.1f} us{min(values) - off:+8.1f}")
    if options.out:
        machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "load": load}
        figures = {name: round(min(values), 1) for name, values in found.items()}
        options.out.write_text(json.dumps(machine | {"us_per_request": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
