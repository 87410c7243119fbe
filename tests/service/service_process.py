"""`modelyard up` as a subprocess, the way a user starts it, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from ports import free_port

MARK = "MODELYARD_TEST_SERVICE"
"""Variable that every process of a service inherits; it tells them from everybody else's."""
REPLICA = re.compile(r"ray::ServeReplica:(?P<app>[^:]+):(?P<deployment>[^:. ]+)")
START_S = 240.0
"""How long the experts may take to load when the machine is busy with other things."""
STOP_S = 60.0


def until(holds: Callable[[], Any], what: str, timeout_s: float = 60.0, every_s: float = 0.1) -> Any:
    """Wait until `holds` returns something true, and return it; fail by name after a generous time."""
    limit = time.monotonic() + timeout_s
    while not (found := holds()):
        if time.monotonic() > limit:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)
    return found


class ServiceProcess:
    """One `modelyard up`, its address, its events, and its processes."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str] | None = None, **options: Any) -> None:
        """`options` are those of the command; a list is given once for each item, and True is a switch."""
        self.folder = folder
        self.port = int(options.pop("port", 0)) or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.mark = uuid.uuid4().hex
        self.process: subprocess.Popen[bytes] | None = None
        self._options = options
        self._environment = {**os.environ, "HF_HUB_OFFLINE": "1", **(environment or {}), MARK: self.mark}
        key = self._environment.get("MODELYARD_API_KEY")
        self.headers = {"authorization": f"Bearer {key}"} if key else {}
        """The operator's, for a service that asks for a key."""
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def output(self) -> str:
        """What the command has written, both streams."""
        return (self.folder / "stdout").read_text() + (self.folder / "stderr").read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The service's own events so far."""
        return [json.loads(line) for line in (self.folder / "stdout").read_text().splitlines()]

    def start(self) -> None:
        """Start the command; it goes on in the background."""
        command = [str(Path(sys.executable).with_name("modelyard")), "up", "--json", "--port", str(self.port)]
        for name, value in self._options.items():
            flag = "--" + name.replace("_", "-")
            for each in value if isinstance(value, (list, tuple)) else [value]:
                command += [flag] if each is True else [flag, str(each)]
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("wb") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err, env=self._environment, cwd=self.folder)

    def await_ready(self, *nodes: str) -> None:
        """Wait until these nodes, or else all, are ready; raise if the command ends or a node fails before."""
        states: dict[str, str] = {}

        def settled() -> bool:
            nonlocal states
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"the service ended: {self.output}")
            states = self.states()
            wanted = {name: states.get(name, "loading") for name in nodes} if nodes else states
            return bool(wanted) and "loading" not in wanted.values()

        until(settled, "the nodes are loaded", START_S)
        late = {name: state for name, state in states.items() if name in (nodes or states) and state != "ready"}
        assert not late, self.output

    def states(self) -> dict[str, str]:
        """What /readyz says of each node; nothing while nobody answers."""
        try:
            found: dict[str, str] = httpx.get(f"{self.url}/readyz", headers=self.headers, timeout=5).json()["nodes"]
        except (httpx.HTTPError, ValueError, KeyError):
            return {}
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the command and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def kill(self) -> None:
        """Kill the command and everything that stems from it, all at once, as a power cut would."""
        while found := list(self.processes()):
            for pid, _ in found:
                _kill(pid)
            time.sleep(0.02)
        if self.process is not None:
            self.process.wait(STOP_S)

    def processes(self) -> Iterator[tuple[int, str]]:
        """The living processes of this service: the command itself, Ray's, HAProxy, replicas."""
        wanted = f"{MARK}={self.mark}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    if title:  # a zombie has none
                        yield int(folder.name), title
            except OSError:
                continue

    def replicas(self, deployment: str) -> list[int]:
        """Processes of one deployment: a node's name, `gateway` or `controller`."""
        return [pid for pid, _, name in self.replica_titles() if name == deployment]

    def replica_titles(self) -> Iterator[tuple[int, str, str]]:
        """Every replica: process, Serve application, deployment. Ray writes them into the process's title."""
        for pid, title in self.processes():
            if match := REPLICA.match(title):
                yield pid, match["app"], match["deployment"]


def kill_replica(service: ServiceProcess, deployment: str) -> None:
    """Kill the processes of one deployment."""
    found = service.replicas(deployment)
    assert found, [title for _, title in service.processes()]
    for pid in found:
        _kill(pid)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
