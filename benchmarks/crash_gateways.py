"""Gateway processes without Ray, which start in seconds, so that a minute holds many deaths."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.crash_service import CrashService
from benchmarks.services import free_port


class GatewayService(CrashService):
    """As many gateways as asked for, each on a port of its own; one that was killed is started again after a while."""

    def __init__(self, folder: Path, nodes: Path, store: str, replicas: int) -> None:
        super().__init__(folder, nodes, store, replicas)
        self._ports = [free_port() for _ in range(replicas)]
        self.urls = [f"http://127.0.0.1:{port}" for port in self._ports]
        gateway = [sys.executable, "-m", "benchmarks.gateway_only", str(nodes)]
        self._commands = {port: [*gateway, str(port), store] for port in self._ports}
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start those that do not run."""
        for port, command in self._commands.items():
            if port not in self._running or self._running[port].poll() is not None:
                self._running[port] = self.spawn(f"gateway-{port}", command, self._environment)

    def kill_replica(self, deployment: str, dice: random.Random) -> bool:
        """Kill one gateway, and start it again."""
        process = self._running[dice.choice(self._ports)]
        process.kill()
        process.wait()
        time.sleep(dice.uniform(0, 3))
        self.start()
        return True

    def kill_all(self) -> None:
        """Kill every gateway."""
        super().kill_all()
        for process in self._running.values():
            process.wait()

    def await_ready(self) -> float:
        """Wait until every gateway is ready."""
        return max(self._await(url) for url in self.urls)
