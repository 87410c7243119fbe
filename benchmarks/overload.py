"""What more load than can be served does: the gateway beside LiteLLM's proxy, measured in one run.

python -m benchmarks.overload [--seconds S] [--litellm PATH/TO/litellm]

The most requests/s that 64 clients get answered is each arm's capacity. Requests then come at shares of it, at a fixed
rate whether or not there are answers. An answer that takes longer than `--patience` is worth nothing: its caller left.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import services
from benchmarks.gateway import RESULTS, Arm, make_arm
from benchmarks.gateway_report import environment
from benchmarks.load import rss_mb
from benchmarks.wire_load import Answer, closed, paced

CONNECTIONS = 64


@dataclass(frozen=True)
class Pressed:
    """What came of a constant rate of requests."""

    share: float
    """Of the capacity."""
    sent_per_s: float
    good_per_s: float
    """Answered with 200 within the patience of a caller."""
    refused_per_s: float
    """Answered with 429 or 503."""
    late_per_s: float
    """Answered later, or not at all."""
    good_p50_ms: float
    good_p99_ms: float
    refused_p99_ms: float
    rss_mb: float


def main() -> None:
    """Measure, print the table, keep the raw results."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else the services would outlive a run that is ended
    result: dict[str, Any] = {"environment": environment(arguments.litellm), "arms": {}}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="overload-benchmark-")))
        upstream = stack.enter_context(services.upstream(folder))
        for arm in _arms(stack, folder, upstream.port, arguments):
            result["arms"][arm.load.name] = _press(arm, arguments)
    print(_table(result))
    if not arguments.no_save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "overload.json").write_text(json.dumps(result, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="at each rate")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 1.0, 2.0, 3.0], help="of the capacity")
    parser.add_argument("--patience", type=float, default=2.0, help="seconds for which a caller waits")
    parser.add_argument("--litellm", type=Path, default=os.environ.get("LITELLM_PROXY"), help="LiteLLM's program")
    parser.add_argument("--no-save", action="store_true", help="only print")
    return parser.parse_args()


def _arms(stack: ExitStack, folder: Path, port: int, arguments: argparse.Namespace) -> list[Arm]:
    ours = stack.enter_context(services.modelyard(folder, "modelyard", port))
    arms = [make_arm("modelyard", ours, "/v1/chat/completions", "auto", folder)]
    if arguments.litellm:
        proxy = stack.enter_context(services.litellm(folder, arguments.litellm, port))
        key = {"authorization": f"Bearer {services.LITELLM_KEY}"}
        arms.append(make_arm("litellm", proxy, "/v1/chat/completions", "fixed", folder, key))
    return arms


def _press(arm: Arm, arguments: argparse.Namespace) -> dict[str, Any]:
    processes = arm.service.processes()
    closed(arm.load, CONNECTIONS, 2.0)
    capacity = len([each for each in closed(arm.load, CONNECTIONS, 5.0) if each.status == 200]) / 5.0
    found = []
    for share in arguments.shares:
        answers = paced(arm.load, share * capacity, arguments.seconds, 2 * arguments.patience)
        pressed = _pressed(share, answers, arguments, rss_mb(processes))
        found.append(asdict(pressed))
        print(f"{arm.load.name}: {pressed}", flush=True)
        time.sleep(arguments.patience)
    return {"capacity_per_s": capacity, "shares": found}


def _pressed(share: float, answers: list[Answer], arguments: argparse.Namespace, rss: float) -> Pressed:
    patience = arguments.patience * 1000
    good = [each.ms for each in answers if each.status == 200 and each.ms <= patience]
    refused = [each.ms for each in answers if each.status in (429, 503)]
    per_s = 1 / arguments.seconds
    return Pressed(
        share,
        len(answers) * per_s,
        len(good) * per_s,
        len(refused) * per_s,
        (len(answers) - len(good) - len(refused)) * per_s,
        _percentile(good, 50),
        _percentile(good, 99),
        _percentile(refused, 99),
        rss,
    )


def _percentile(values: list[float], which: float) -> float:
    return float(np.percentile(values, which)) if values else 0.0


def _table(result: dict[str, Any]) -> str:
    lines = [
        "| arm, capacity | load | answered in time/s | refused/s | late or lost/s | p50, p99 ms | refused p99 ms | MB |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name, arm in result["arms"].items():
        lines += [_row(f"{name}, {arm['capacity_per_s']:,.0f}/s", Pressed(**row)) for row in arm["shares"]]
    return "\n".join(lines)


def _row(name: str, row: Pressed) -> str:
    return (
        f"| {name} | {row.share:g} x | {row.good_per_s:,.0f} | {row.refused_per_s:,.0f} | {row.late_per_s:,.0f} | "
        f"{row.good_p50_ms:,.0f}, {row.good_p99_ms:,.0f} | {row.refused_p99_ms:,.0f} | {row.rss_mb:,.0f} |"
    )


if __name__ == "__main__":
    main()
