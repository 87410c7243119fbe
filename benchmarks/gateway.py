"""What the gateway costs, beside the bare upstream, bare Ray Serve and LiteLLM's proxy, measured in one run.

python -m benchmarks.gateway [--quick] [--litellm PATH/TO/litellm]

Every arm is started, warmed up, and measured in rounds that alternate, at 1, 16 and 64 connections; figures are medians
over the rounds. Then each gets requests at a fixed rate, whether or not it answers. LiteLLM runs where its program is
named, by the option or `LITELLM_PROXY`: it lives in an environment of its own
(`python -m venv DIR && DIR/bin/pip install 'litellm[proxy]'`, then `DIR/bin/litellm`).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks import services
from benchmarks.gateway_report import environment, medians, plot, table, targets
from benchmarks.load import Load, Measured, rss_mb, sizes, wrk_path
from benchmarks.open_loop import paced
from benchmarks.services import Service

RESULTS = Path(__file__).parent / "results"
QUESTION = "Is a verbal agreement binding?"
ARMS = ("upstream", "serve noop", "serve hop", "serve pass", "named", "auto", "auto untraced", "litellm")


@dataclass(frozen=True)
class Arm:
    """What is asked, and of which service."""

    load: Load
    service: Service


def main() -> None:
    """Measure, print the table, keep the raw results."""
    arguments = _arguments()
    wrk_path()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else the services would outlive a run that is ended
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-benchmark-")))
        arms = _start(stack, folder, arguments)
        idle = {arm.service.name: rss_mb(arm.service.processes()) for arm in arms}
        for arm in arms:
            _check(arm)
        raw = _measure(arms, arguments)
        pace = {arm.load.name: _pace(arm, arguments) for arm in arms} if arguments.rate else {}
        memory = {
            service.name: {"idle_mb": idle[service.name], "loaded_mb": rss_mb(service.processes()),
                           "processes": sizes(service.processes())}
            for service in {arm.service for arm in arms}
        }  # fmt: skip
    result = {"environment": environment(arguments.litellm), "settings": _settings(arguments), "memory": memory,
              "rounds": raw, "median": medians(raw), "paced": pace}  # fmt: skip
    print(table(result))
    print(targets(result))
    if not arguments.no_save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "gateway.json").write_text(json.dumps(result, indent=1) + "\n")
        print(f"raw results: {RESULTS / 'gateway.json'}{plot(result, RESULTS / 'gateway.svg')}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, help="default: 5")
    parser.add_argument("--seconds", type=float, help="of one measurement; default: 4")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--rate", type=float, default=40.0, help="requests/s of the open loop; 0 leaves it out")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--litellm", type=Path, default=os.environ.get("LITELLM_PROXY"), help="LiteLLM's program")
    parser.add_argument("--no-save", action="store_true", help="only print")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 5)
    arguments.seconds = arguments.seconds or (2.0 if arguments.quick else 4.0)
    return arguments


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"rounds": arguments.rounds, "seconds": arguments.seconds, "connections": arguments.connections}


def _start(stack: ExitStack, folder: Path, arguments: argparse.Namespace) -> list[Arm]:
    """Start the services that the arms need, one after the other, all of them running at the end."""
    wanted = set(arguments.arms)
    upstream: Service = stack.enter_context(services.upstream(folder))
    arms = [make_arm("upstream", upstream, "/v1/chat/completions", "fixed", folder)]
    if wanted & {"serve noop", "serve hop", "serve pass"}:
        bare: Service = stack.enter_context(services.bare_serve(folder, upstream.port))
        arms.append(make_arm("serve noop", bare, "/noop/", "fixed", folder))
        arms.append(make_arm("serve hop", bare, "/hop/", "fixed", folder))
        arms.append(make_arm("serve pass", bare, "/pass/", "fixed", folder))
    if wanted & {"named", "auto"}:
        traced: Service = stack.enter_context(services.modelyard(folder, "modelyard", upstream.port))
        arms.append(make_arm("named", traced, "/v1/chat/completions", "legal", folder))
        arms.append(make_arm("auto", traced, "/v1/chat/completions", "auto", folder))
    if "auto untraced" in wanted:
        off = {"MODELYARD_TRACES_PER_S": "0"}
        untraced: Service = stack.enter_context(services.modelyard(folder, "untraced", upstream.port, off))
        arms.append(make_arm("auto untraced", untraced, "/v1/chat/completions", "auto", folder))
    if "litellm" in wanted:
        if arguments.litellm:
            proxy: Service = stack.enter_context(services.litellm(folder, arguments.litellm, upstream.port))
            key = {"authorization": f"Bearer {services.LITELLM_KEY}"}
            arms.append(make_arm("litellm", proxy, "/v1/chat/completions", "fixed", folder, key))
        else:
            print("LiteLLM is left out: name its program by --litellm or LITELLM_PROXY")
    return [arm for arm in arms if arm.load.name in wanted]


def make_arm(
    name: str, service: Service, path: str, model: str, folder: Path, headers: dict[str, str] | None = None
) -> Arm:
    """Return an arm that asks a chat completion of `model`."""
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 64}
    return Arm(Load(name, f"http://127.0.0.1:{service.port}{path}", body, headers or {}, folder), service)


def _check(arm: Arm) -> None:
    """Make sure that an arm answers as it should before its figures count."""
    load = arm.load
    answer = httpx.post(load.url, json=load.body, headers=load.headers, timeout=60, trust_env=False)
    answer.raise_for_status()
    assert answer.json()["choices"][0]["message"]["content"].startswith("Yes."), answer.text
    if load.name.startswith("auto"):
        assert answer.headers["x-modelyard-node"] == "legal", answer.headers


def _measure(arms: list[Arm], arguments: argparse.Namespace) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Return the measured values by arm and connections, one for each round."""
    for arm in arms:  # warm up: pools, caches, compiled paths
        arm.load.run(16, min(arguments.seconds, 2.0), arm.service.processes())
    raw: dict[str, dict[str, list[dict[str, Any]]]] = {arm.load.name: {} for arm in arms}
    for number in range(arguments.rounds):
        for connections in arguments.connections:
            for arm in arms if number % 2 == 0 else reversed(arms):
                found = arm.load.run(connections, arguments.seconds, arm.service.processes())
                raw[arm.load.name].setdefault(str(connections), []).append(found.to_json())
                print(_progress(number, arm.load.name, connections, found), flush=True)
    return raw


def _pace(arm: Arm, arguments: argparse.Namespace) -> dict[str, Any]:
    return paced(arm.load, arguments.rate, 2 * arguments.seconds).to_json()


def _progress(number: int, name: str, connections: int, found: Measured) -> str:
    return (
        f"round {number + 1}  {name:<14} {connections:>3} connections  {found.requests_per_s:>9,.0f} requests/s"
        f"  p50 {found.p50_ms:.2f} ms  p99 {found.p99_ms:.2f} ms  cpu {found.cpu_us:,.0f} us"
        f" (busiest process {found.busiest_us:,.0f})" + (f"  {found.bad} FAILED" if found.bad else "")
    )


if __name__ == "__main__":
    main()
