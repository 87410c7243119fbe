"""Load by wrk on the loopback address, and what it does to the processes of a service."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

_SCRIPT = """
wrk.method = "POST"
wrk.body = {body}
{headers}
done = function(summary, latency, requests)
  io.write(string.format('RESULT {{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "bad": %d}}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.timeout))
end
"""


@dataclass(frozen=True)
class Measured:
    """One arm in one round at one number of connections."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    bad: int
    cpu_us: float
    """CPU time of the whole service for one request, in microseconds."""
    busiest_us: float
    """That of its busiest process: what one replica cannot share."""
    rss_mb: float

    def to_json(self) -> dict[str, Any]:
        """Return the values by name."""
        return asdict(self)


def wrk_path() -> str:
    """Return where wrk is; end with a message if it is missing."""
    found = shutil.which("wrk")
    if found is None:
        raise SystemExit("wrk is needed for this benchmark: apt-get install wrk (or https://github.com/wg/wrk)")
    return found


class Load:
    """A POST request that is repeated. Its script is written once, into `folder`."""

    def __init__(self, name: str, url: str, body: Mapping[str, Any], headers: Mapping[str, str], folder: Path) -> None:
        self.name, self.url, self.body = name, url, dict(body)
        self.headers = {"content-type": "application/json", **headers}
        self._script = folder / f"{name.replace(' ', '-')}.lua"
        lines = "\n".join(f"wrk.headers[{_lua(k)}] = {_lua(v)}" for k, v in self.headers.items())
        self._script.write_text(_SCRIPT.format(body=_lua(json.dumps(body)), headers=lines))

    def content(self) -> bytes:
        """Return the body as it goes over the wire."""
        return json.dumps(self.body).encode()

    def run(self, connections: int, seconds: float, processes: list[psutil.Process]) -> Measured:
        """Keep `connections` busy for some seconds; `processes` are those of the service."""
        command = [
            wrk_path(),
            "-t1",
            f"-c{connections}",
            f"-d{seconds:g}s",
            "--timeout",
            "10s",
            "-s",
            str(self._script),
        ]
        before = cpu_seconds(processes)
        ran = subprocess.run([*command, self.url], capture_output=True, text=True, timeout=seconds + 60, check=True)
        after = cpu_seconds(processes)
        line = next(line for line in ran.stdout.splitlines() if line.startswith("RESULT "))
        found = json.loads(line.removeprefix("RESULT "))
        count = max(found["requests"], 1)
        used = [after[pid] - before[pid] for pid in before if pid in after]
        return Measured(
            requests_per_s=found["requests"] / found["seconds"],
            p50_ms=found["p50_ms"],
            p99_ms=found["p99_ms"],
            bad=found["bad"],
            cpu_us=sum(used) / count * 1e6,
            busiest_us=max(used, default=0.0) / count * 1e6,
            rss_mb=rss_mb(processes),
        )


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and all that stem from it."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(processes: list[psutil.Process]) -> dict[int, float]:
    """Return the CPU seconds of each process that is alive."""
    found = {}
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found[process.pid] = times.user + times.system
    return found


def rss_mb(processes: list[psutil.Process]) -> float:
    """Return the resident size of all processes together, in MB; shared pages count for each."""
    return sum(size for _, size in sizes(processes))


def sizes(processes: list[psutil.Process]) -> list[tuple[str, float]]:
    """Return the name and resident size in MB of each process, largest first."""
    found = []
    for process in processes:
        try:
            words = process.cmdline()
            name = process.name() if not words or "/" in words[0] else words[0]
            found.append((name, process.memory_info().rss / 2**20))
        except psutil.NoSuchProcess:
            continue
    return sorted(found, key=lambda item: -item[1])


def _lua(text: str) -> str:
    """Quote a string for Lua, which takes JSON's escapes of ASCII text."""
    return json.dumps(text)
